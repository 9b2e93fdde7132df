package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"rehost/internal/hint"
)

// preflight checks what a local cloud needs of the machine, before anything is started.
// addresses are what it will listen on, by flag.
func preflight(ctx context.Context, addresses map[string]string) error {
	if os.Geteuid() != 0 {
		return hint.New("the local cloud needs root: it makes mounts and loop devices", "run it again as root, for example with sudo")
	}
	const qemu = "qemu-system-x86_64"
	if _, err := exec.LookPath(qemu); err != nil {
		return hint.New(qemu+" is not installed: the local cloud's instances are QEMU guests", "apt-get install qemu-system-x86 seabios, or run scripts/install-packages")
	}
	for _, flag := range slices.Sorted(maps.Keys(addresses)) {
		if err := portFree(ctx, flag, addresses[flag]); err != nil {
			return err
		}
	}
	return nil
}

// portFree says whether address can be listened on. Another process may still take it before we do; then the role says so.
func portFree(ctx context.Context, flag, address string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return hint.New(fmt.Sprintf("address %s is in use", address), "stop what uses it (ss -ltnp shows it), or choose another with "+flag)
	default:
		return hint.Wrap(fmt.Errorf("listen on %s: %w", address, err), "choose an address of this machine with "+flag+", such as 127.0.0.1:4566")
	}
}
