package track

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

// mountSource tells a bpffs that we mounted from the host's. The kernel itself puts files named *.debug into each.
const mountSource = "rehost"

// hostBPFFS is where systemd mounts the host's.
const hostBPFFS = "/sys/fs/bpf"

// MountBPFFS makes the folder dir and mounts a bpffs on it, unless it lies in one already.
func MountBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for a bpffs: %w", err)
	}
	in, err := inBPFFS(dir)
	if err != nil || in {
		return err
	}
	if err := unix.Mount(mountSource, dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=700"); err != nil {
		return hint.Wrap(fmt.Errorf("mount a bpffs on %s: %w", dir, err), "run it as root on a kernel with CONFIG_BPF_SYSCALL, outside of a container")
	}
	return nil
}

// inBPFFS tells whether dir lies in a bpffs.
func inBPFFS(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("look up the filesystem of %s: %w", dir, err)
	}
	return st.Type == unix.BPF_FS_MAGIC, nil
}

// makePinDir makes a folder for pins, on a bpffs that is mounted on its parent when there is none.
func makePinDir(dir string) error {
	if err := MountBPFFS(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make the folder for pins: %w", err)
	}
	return nil
}

// Remove ends the tracking that is pinned in a folder: it removes the pins, and with the last reference the kernel
// detaches the programs and frees the marks. A folder that does not exist is no error. A bpffs that we mounted is
// unmounted when nothing else is pinned in it.
func Remove(pinDir string) error {
	entries, err := os.ReadDir(pinDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list pins: %w", err)
	}
	in, err := inBPFFS(pinDir)
	if err != nil {
		return err
	}
	if !in {
		return fmt.Errorf("%s is not in a bpffs, its files are left alone", pinDir)
	}
	for _, e := range entries {
		if err := os.Remove(filepath.Join(pinDir, e.Name())); err != nil {
			return fmt.Errorf("remove a pin: %w", err)
		}
	}
	if err := os.Remove(pinDir); err != nil {
		return fmt.Errorf("remove the folder for pins: %w", err)
	}
	return unmountOwn(filepath.Dir(pinDir))
}

// unmountOwn removes dir, which is in a bpffs, and unmounts the bpffs, as far as they are empty and ours.
func unmountOwn(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look for the bpffs: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		point, filesystem, _ := strings.Cut(line, " - ")
		fields := strings.Fields(point)
		if len(fields) < 5 || !strings.HasPrefix(dir+"/", fields[4]+"/") {
			continue
		}
		// Some kernels, 5.10 among them, forget the source.
		ours := strings.HasPrefix(filesystem, "bpf "+mountSource+" ") || strings.HasPrefix(filesystem, "bpf none ") && fields[4] != hostBPFFS
		if !ours {
			continue
		}
		if dir != fields[4] && os.Remove(dir) != nil {
			return nil // another server of this host has its pins there
		}
		entries, err := os.ReadDir(fields[4])
		if err != nil {
			return fmt.Errorf("list pins: %w", err)
		}
		if slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !strings.HasSuffix(e.Name(), ".debug") }) {
			return nil
		}
		if err := unix.Unmount(fields[4], 0); err != nil {
			return fmt.Errorf("unmount the bpffs at %s: %w", fields[4], err)
		}
		return nil
	}
	return nil
}
