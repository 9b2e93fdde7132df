package script

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// faultPipe is the descriptor on which the helper says why there is no script; it closes when the script begins.
const faultPipe = 3

// HelperMain becomes the script that standard input describes. It returns, with an exit code, only if there is none.
func HelperMain() int {
	// Capabilities belong to threads, and the script has those of the one that becomes it.
	runtime.LockOSThread()
	unix.CloseOnExec(faultPipe)
	_, _ = fmt.Fprint(os.NewFile(faultPipe, "faults"), become())
	return 127
}

func become() error {
	var o Order
	if err := json.NewDecoder(os.Stdin).Decode(&o); err != nil {
		return fmt.Errorf("read the script: %w (this is no command to run by hand)", err)
	}
	if err := noInput(); err != nil {
		return err
	}
	// What is mounted from here on is nobody else's.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	unix.Umask(0o022)
	path, search, err := o.place()
	if err != nil {
		return err
	}
	env := append([]string{search, "HOME=/root", "LANG=C", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive", "REHOST_PHASE=" + string(o.Script.Phase)}, o.Env...)
	err = unix.Exec(path, []string{path}, env)
	interpreter, _, _ := strings.Cut(strings.TrimPrefix(o.Script.Content, "#!"), "\n")
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("%s is not there", strings.TrimSpace(interpreter))
	}
	return fmt.Errorf("%s cannot be run: %w", strings.TrimSpace(interpreter), err)
}

// noInput replaces the standard input: the script may read, and nobody says anything.
func noInput() error {
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer func() { _ = null.Close() }()
	if err := unix.Dup3(int(null.Fd()), 0, 0); err != nil {
		return fmt.Errorf("close the script's input: %w", err)
	}
	return nil
}

// place puts the script where it can be run from, and this process where the script is to be. It returns the script's path and the search path.
func (o Order) place() (path, search string, err error) {
	name := filepath.Base(o.Script.Name)
	write := func(dir string) error {
		return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(o.Script.Content), 0o700))
	}
	if o.Root == "" {
		if search, err = machinePlace(); err == nil {
			err = write(machineDir)
		}
		return machineDir + "/" + name, search, err
	}
	if err = o.furnish(); err == nil {
		err = write(o.Root + guestDir)
	}
	if err == nil {
		err = o.enterRoot()
	}
	return guestDir + "/" + name, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", err
}
