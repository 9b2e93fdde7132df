package blockdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

// sysDevBlock has one link per block device, named by its number.
const sysDevBlock = "/sys/dev/block"

// DevNumber returns the device number of the block device at path.
func DevNumber(path string) (major, minor uint32, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, explainOpen(path, &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, hint.New(path+" is not a block device", listDisks)
	}
	return unix.Major(st.Rdev), unix.Minor(st.Rdev), nil
}

// SysPath returns the sysfs folder of a block device.
func SysPath(major, minor uint32) string {
	return filepath.Join(sysDevBlock, fmt.Sprintf("%d:%d", major, minor))
}

// CheckWhole returns an error with a hint when path is a partition: writes are tracked per whole disk.
func CheckWhole(path string) error {
	major, minor, err := DevNumber(path)
	if err != nil {
		return err
	}
	sys := SysPath(major, minor)
	_, err = os.Stat(filepath.Join(sys, "partition"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up %s: %w", path, err)
	}
	real, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return fmt.Errorf("look up the disk of %s: %w", path, err)
	}
	return hint.New(path+" is a partition", "name the whole disk instead: /dev/"+filepath.Base(filepath.Dir(real)))
}
