package script

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
)

// Where a script that runs on the machine itself is, and the names that busybox goes by there.
const (
	machineDir = "/run/rehost"
	namesDir   = machineDir + "/names"
	shell      = "/bin/sh"
	busybox    = "/bin/busybox"
)

// machinePlace readies the machine for a script, and returns its search path. The machine may have no shell but busybox.
func machinePlace() (search string, err error) {
	search = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return "", fmt.Errorf("mount /proc: %w", err)
	}
	if err := os.MkdirAll(machineDir, 0o700); err != nil {
		return "", err
	}
	if err := unix.Mount("tmpfs", machineDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"); err != nil {
		return "", fmt.Errorf("mount %s: %w", machineDir, err)
	}
	if _, err := os.Stat(shell); err == nil {
		return search, nil
	}
	if err := errors.Join(os.Mkdir(namesDir, 0o755), os.Symlink(busybox, shell)); err != nil {
		return "", err
	}
	// The machine's other programs come first: those that it has are the real ones.
	_, err = command.Run(context.Background(), busybox, "--install", "-s", namesDir)
	return search + ":" + namesDir, err
}
