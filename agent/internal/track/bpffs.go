package track

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

// MountBPFFS makes the folder dir and mounts a bpffs on it, unless it lies in one already.
func MountBPFFS(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a folder for a bpffs: %w", err)
	}
	in, err := inBPFFS(dir)
	if err != nil || in {
		return err
	}
	if err := unix.Mount("rehost", dir, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RELATIME, "mode=700"); err != nil {
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
// detaches the programs and frees the marks. A folder that does not exist is no error. It does not unmount the bpffs.
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
	return nil
}
