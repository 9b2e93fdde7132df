package blockdev

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

const (
	loopControl = "/dev/loop-control"
	loopMajor   = 7

	// attachTries bounds the race for a free loop device: someone else may take it between our question and our use.
	attachTries = 32
	retryPause  = 20 * time.Millisecond
)

// LoopOptions says what a loop device shows.
type LoopOptions struct {
	// File is an image file, or the node of another block device.
	File string
	// Offset and SizeLimit, in bytes, select a part of the file. SizeLimit 0 means up to its end.
	Offset, SizeLimit int64
	ReadOnly          bool
	// DirectIO bypasses the page cache of the file's filesystem, so that data is not cached twice.
	DirectIO bool
}

// Loop is an attached loop device.
type Loop struct {
	// Path is its node, such as /dev/loop3.
	Path string
	// detached keeps a second Detach from hitting a stranger who got the same device since.
	detached bool
}

// AttachLoop attaches a free loop device and makes its node when it is missing. The caller detaches it.
func AttachLoop(ctx context.Context, o LoopOptions) (*Loop, error) {
	flags := os.O_RDWR
	if o.ReadOnly {
		flags = os.O_RDONLY
	}
	backing, err := os.OpenFile(o.File, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("open the backing file of a loop device: %w", err)
	}
	defer func() { _ = backing.Close() }()
	control, err := os.OpenFile(loopControl, os.O_RDWR, 0)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("open the loop driver: %w", err), "run it as root, and load the driver with `modprobe loop`")
	}
	defer func() { _ = control.Close() }()
	for range attachTries {
		l, err := attachFree(control, backing, o)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EAGAIN) {
			return nil, fmt.Errorf("attach %s to a loop device: %w", o.File, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryPause):
		}
	}
	return nil, hint.New("attach "+o.File+": every free loop device was taken by someone else", "try again, or detach unused ones: `losetup -a`")
}

// attachFree asks for a free device and configures it; EBUSY means that someone was faster.
func attachFree(control, backing *os.File, o LoopOptions) (*Loop, error) {
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return nil, fmt.Errorf("ask for a free loop device: %w", err)
	}
	path := fmt.Sprintf("/dev/loop%d", number)
	if err := ensureLoopNode(path, uint32(number)); err != nil {
		return nil, err
	}
	node, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open loop device: %w", err)
	}
	defer func() { _ = node.Close() }()
	config := unix.LoopConfig{Fd: uint32(backing.Fd())}
	config.Info.Offset, config.Info.Sizelimit = uint64(o.Offset), uint64(o.SizeLimit)
	if o.ReadOnly {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	if o.DirectIO {
		config.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], o.File)
	if err := unix.IoctlLoopConfigure(int(node.Fd()), &config); err != nil {
		return nil, fmt.Errorf("configure %s: %w", path, err)
	}
	return &Loop{Path: path}, nil
}

// ensureLoopNode makes the node of a loop device where nothing else does, as in a container without udev.
func ensureLoopNode(path string, minor uint32) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, minor)))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return nil
}

// Detach releases the device. When someone still has it open, the kernel detaches it after the last close.
// Detaching a device that is not attached is no error.
func (l *Loop) Detach() error {
	if l.detached {
		return nil
	}
	node, err := os.OpenFile(l.Path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("detach loop device: %w", err)
	}
	defer func() { _ = node.Close() }()
	_, err = unix.IoctlRetInt(int(node.Fd()), unix.LOOP_CLR_FD)
	if err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", l.Path, err)
	}
	l.detached = true
	return nil
}
