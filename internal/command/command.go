// Package command is the only place that runs external programs. It returns
// their output and turns a failure into one error that carries the program's
// own last words. It never runs a shell.
package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"rehost/internal/hint"
)

// lastWords bounds how much of a failed program's standard error goes into the error.
const lastWords = 400

// Run runs name with args and returns its standard output. A program that is
// not installed gives an error with a hint. A cancelled ctx kills the program.
func Run(ctx context.Context, name string, args ...string) ([]byte, error) {
	return RunIn(ctx, "", nil, name, args...)
}

// RunIn is Run in the folder dir (empty: the current one) with the given standard input (may be nil).
func RunIn(ctx context.Context, dir string, stdin []byte, name string, args ...string) ([]byte, error) {
	cmd := newCmd(ctx, name, args)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, hint.Wrap(fmt.Errorf("run %s: not installed", name), "install it: the README's commands do, or scripts/install-packages")
	}
	if err != nil {
		text := strings.TrimSpace(errOut.String())
		if len(text) > lastWords {
			text = "..." + text[len(text)-lastWords:]
		}
		return out.Bytes(), fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, text)
	}
	return out.Bytes(), nil
}

// Ask runs a program that somebody else wrote, in an environment of its own, and returns the last line that it wrote to its standard
// output or error, of which no more than some KiB are kept however much it writes. An error says only how it ended.
func Ask(ctx context.Context, env []string, name string, args ...string) (lastLine string, err error) {
	cmd := newCmd(ctx, name, args)
	cmd.Env = env
	out := &Tail{Max: keptTail}
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	return out.lastLine(), err
}

// newCmd is a program that ends with ctx, and with us, together with those that it started.
func newCmd(ctx context.Context, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	// A child that outlives us would go on working on devices that we already cleaned up.
	// In a process group of its own, it does not get the terminal's Ctrl-C: what ends it is ctx, and a clean-up is not cut short.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	// The programs that it has started too: they would keep its output open and go on with what was called off.
	cmd.Cancel = func() error {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
			return err
		}
		return os.ErrProcessDone
	}
	return cmd
}
