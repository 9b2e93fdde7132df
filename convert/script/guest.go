package script

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// guestDir is where the script is, in the guest: below a /dev that is in memory.
const guestDir = "/dev/rehost"

// devices are the device files that a script in a guest has. None of them is a disk.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// kernelFiles below /proc reach the whole machine, and not only the processes of a namespace: root's name is enough
// to write to them.
var kernelFiles = []string{"sys", "sysrq-trigger", "irq", "bus", "fs"}

// capabilities are what root keeps in a guest: enough for package managers and makers of initramfs images. Whoever
// has them can neither mount nor load modules, and makes device files that open nothing.
var capabilities = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETPCAP, unix.CAP_SETFCAP, unix.CAP_LINUX_IMMUTABLE, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_AUDIT_WRITE,
}

// inert is how everything in a guest is mounted.
const inert = unix.MS_NOSUID | unix.MS_NODEV

// furnish gives the guest what a running system has: programs that may run, processes, devices, a /run and a /tmp that nobody keeps.
func (o Order) furnish() error {
	for _, m := range o.Mounts {
		// For this namespace only: where the conversion works, nothing of the guest can be run.
		if err := unix.Mount("", m, "", unix.MS_REMOUNT|unix.MS_BIND|inert|unix.MS_NOATIME, ""); err != nil {
			return fmt.Errorf("let programs of the guest run: %w", err)
		}
	}
	for _, f := range []struct {
		dir, kind string
		flags     uintptr
		options   string
		needed    bool
	}{
		{"proc", "proc", inert | unix.MS_NOEXEC, "", true},
		{"sys", "sysfs", inert | unix.MS_NOEXEC | unix.MS_RDONLY, "", false},
		{"dev", "tmpfs", inert, "mode=755", true},
		{"run", "tmpfs", inert, "mode=755", false},
		{"tmp", "tmpfs", inert, "mode=1777", false},
	} {
		path := filepath.Join(o.Root, f.dir)
		info, err := os.Lstat(path)
		switch isDir := err == nil && info.IsDir(); {
		case !isDir && f.needed:
			return fmt.Errorf("the guest has no folder /%s", f.dir)
		case !isDir:
			continue // a link may lead anywhere
		}
		if err := unix.Mount(f.kind, path, f.kind, f.flags, f.options); err != nil {
			return fmt.Errorf("mount /%s for the script: %w", f.dir, err)
		}
	}
	return errors.Join(o.hide(), o.makeDevices(), ignoreAbsent(os.Mkdir(filepath.Join(o.Root, "run/lock"), 0o755)))
}

// hide makes what reaches the whole machine unwritable, and what its firmware was told invisible: the order is there, with its passphrase.
func (o Order) hide() error {
	for _, f := range kernelFiles {
		path := filepath.Join(o.Root, "proc", f)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		if err := unix.Mount(path, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("protect /proc/%s: %w", f, err)
		}
		if err := unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|inert|unix.MS_NOEXEC, ""); err != nil {
			return fmt.Errorf("protect /proc/%s: %w", f, err)
		}
	}
	firmware := filepath.Join(o.Root, "sys/firmware")
	if info, err := os.Lstat(firmware); err != nil || !info.IsDir() {
		return nil //nolint:nilerr // nothing to hide
	}
	if err := unix.Mount("tmpfs", firmware, "tmpfs", inert|unix.MS_NOEXEC|unix.MS_RDONLY, "size=4k"); err != nil {
		return fmt.Errorf("hide /sys/firmware: %w", err)
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// makeDevices fills /dev. A device file that is bound there works, and one that is made there does not.
func (o Order) makeDevices() error {
	dev := filepath.Join(o.Root, "dev")
	for _, d := range devices {
		path := filepath.Join(dev, d)
		if err := os.WriteFile(path, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+d, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("make /dev/%s: %w", d, err)
		}
	}
	return errors.Join(os.Mkdir(filepath.Join(dev, "shm"), 0o777),
		os.Symlink("/proc/self/fd", filepath.Join(dev, "fd")), os.Symlink("/proc/self/fd/0", filepath.Join(dev, "stdin")),
		os.Symlink("/proc/self/fd/1", filepath.Join(dev, "stdout")), os.Symlink("/proc/self/fd/2", filepath.Join(dev, "stderr")))
}

// enterRoot makes the guest's root the root of this namespace. Beyond a root that is only a process's own there
// would be the machine's; beyond this one there is nothing. (The machine's own root is one that pivot_root does not take.)
func (o Order) enterRoot() error {
	if err := unix.Chdir(o.Root); err != nil {
		return fmt.Errorf("enter the guest: %w", err)
	}
	// A /proc that hides nothing would let a namespace of users have another one.
	for _, dir := range []string{"/proc", "/sys", "/dev"} {
		if err := unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("leave the machine's %s: %w", dir, err)
		}
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("make the guest the root: %w", err)
	}
	if err := errors.Join(unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("enter the guest: %w", err)
	}
	return dropCapabilities()
}

// lastCapability is above the highest number that a kernel of today knows.
const lastCapability = 63

// dropCapabilities takes from the script, and all that it starts, what lets root out of its namespaces.
func dropCapabilities() error {
	for c := uintptr(0); c <= lastCapability; c++ {
		if slices.Contains(capabilities, c) {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) {
			break // the kernel knows no more
		}
		if err != nil {
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("bound core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	return nil
}
