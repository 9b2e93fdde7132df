package pool

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Supported reports whether files in dir can share blocks. It tries, because
// the filesystem's name does not say (XFS may be made without reflinks).
func Supported(dir string) bool {
	src, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return false
	}
	defer func() { _ = os.Remove(src.Name()) }()
	defer func() { _ = src.Close() }()
	if _, err := src.Write(make([]byte, 64<<10)); err != nil {
		return false
	}
	dst := src.Name() + "-clone"
	defer func() { _ = os.Remove(dst) }()
	return clone(src.Name(), dst) == nil
}

func clone(src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	// What is dirty in the page cache belongs to the copy.
	if err := in.Sync(); err != nil {
		return fmt.Errorf("flush source: %w", err)
	}
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, out.Close())
		if err != nil {
			_ = os.Remove(dst)
		}
	}()
	if err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err != nil {
		return fmt.Errorf("share blocks: %w", err)
	}
	if err := out.Sync(); err != nil {
		return fmt.Errorf("flush copy: %w", err)
	}
	return syncDir(dst)
}

// syncDir makes the name of path durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func freeBytes(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", path, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// isMountPoint reports whether a filesystem is mounted exactly at path.
func isMountPoint(path string) (bool, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, fmt.Errorf("read mounts: %w", err)
	}
	defer func() { _ = f.Close() }()
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, fmt.Errorf("read mounts: %w", err)
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\134`, `\`)
	s := bufio.NewScanner(f)
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && unescape.Replace(fields[4]) == real {
			return true, nil
		}
	}
	return false, s.Err()
}
