// Package blockdev opens whole disks and disk image files, tells their size and
// identity, and attaches loop devices. It speaks to the kernel by ioctl only and
// never runs a program, never formats and never mounts.
package blockdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

// listDisks is the hint for a name that is not a disk.
const listDisks = "run `lsblk -d` and name one of its disks"

// imageBlockBytes is the alignment used for direct I/O on an image file: no
// filesystem that supports it asks for more.
const imageBlockBytes = 4096

// Device is an open disk or image file. It is safe for concurrent ReadAt and WriteAt.
type Device struct {
	*os.File
	// SizeBytes is the size when the device was opened.
	SizeBytes int64
	// BlockBytes is the logical block size: what O_DIRECT offsets and lengths must be multiples of.
	BlockBytes int
	// Block is false for an image file.
	Block bool
	// ReadOnly says that the disk itself refuses writes, however it was opened.
	ReadOnly bool
}

// Open opens a disk or an image file. Flags are those of os.OpenFile; with unix.O_DIRECT, reads and writes must use
// an AlignedBuffer. A name that does not exist, is neither disk nor file, or has no bytes gives an error with a hint.
func Open(path string, flags int) (*Device, error) {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, explainOpen(path, err)
	}
	d := &Device{File: f}
	if err := d.probe(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return d, nil
}

// explainOpen attaches what a person can do about a disk that does not open.
func explainOpen(path string, err error) error {
	err = fmt.Errorf("open disk: %w", err)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return hint.Wrap(err, listDisks)
	case errors.Is(err, fs.ErrPermission):
		return hint.Wrap(err, "run it as root")
	case errors.Is(err, unix.EISDIR):
		return hint.Wrap(err, path+" is a folder: "+listDisks)
	case errors.Is(err, unix.EINVAL):
		return hint.Wrap(err, "keep disk images on a filesystem with direct I/O, such as ext4 or xfs")
	}
	return err
}

// probe fills in what the kernel says about the open file.
func (d *Device) probe() error {
	info, err := d.Stat()
	if err != nil {
		return fmt.Errorf("stat disk: %w", err)
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		d.SizeBytes, d.BlockBytes = info.Size(), imageBlockBytes
		d.ReadOnly = mode.Perm()&0o222 == 0
	case mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0:
		d.Block = true
		if err := d.probeBlock(); err != nil {
			return fmt.Errorf("ask %s for its size: %w", d.Name(), err)
		}
	default:
		return hint.New(d.Name()+" is neither a disk nor an image file", listDisks)
	}
	if d.SizeBytes == 0 {
		return hint.New(d.Name()+" has zero bytes", "attach its medium or its backing file, or "+listDisks)
	}
	return nil
}

func (d *Device) probeBlock() error {
	var size uint64
	if err := ioctlPointer(d.Fd(), unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
		return err
	}
	block, err := unix.IoctlGetInt(int(d.Fd()), unix.BLKSSZGET)
	if err != nil {
		return err
	}
	readOnly, err := unix.IoctlGetUint32(int(d.Fd()), unix.BLKROGET)
	if err != nil {
		return err
	}
	d.SizeBytes, d.BlockBytes, d.ReadOnly = int64(size), block, readOnly != 0
	return nil
}

// SizeBytes returns the size of a disk or an image file.
func SizeBytes(path string) (int64, error) {
	d, err := Open(path, os.O_RDONLY)
	if err != nil {
		return 0, err
	}
	return d.SizeBytes, d.Close()
}

// ioctlPointer is an ioctl whose argument is a pointer that the kernel reads or writes.
func ioctlPointer(fd uintptr, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
