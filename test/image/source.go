package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/revert"
)

// Source is an attached disk with its root mounted, as on the server itself.
type Source struct {
	Disk string // block device of the whole disk, /dev/loopN
	Root string // mount point of the root filesystem

	partition string // block device of the root partition
	mounted   bool
	ownsRoot  bool // the mount point is a temporary folder of ours
}

// Attach makes a block device of the whole disk in the file img, one of its root
// partition on top, and mounts that one. All reads and writes are direct, so the
// disk has what the filesystem wrote. Changes go to img: give it a [Copy].
func Attach(ctx context.Context, img string) (*Source, error) {
	dir, err := os.MkdirTemp("", "rehost-root-")
	if err != nil {
		return nil, fmt.Errorf("create a mount point: %w", err)
	}
	s, err := attach(ctx, img, dir, nil)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("attach %s: %w", img, err), os.Remove(dir))
	}
	s.ownsRoot = true
	return s, nil
}

// attach is Attach at the given mount point, with format (may be nil) called
// before the mount.
func attach(ctx context.Context, img, root string, format func(ctx context.Context, device string) error) (*Source, error) {
	s := &Source{Root: root}
	var undo revert.Stack
	defer undo.Fail()
	undo.Add(func() { _ = s.Close() })
	var err error
	if s.Disk, err = attachLoop(ctx, img, 0, 0); err != nil {
		return nil, err
	}
	// The kernel may have no partition tables; a loop device with an offset is the partition then.
	if s.partition, err = attachLoop(ctx, s.Disk, rootOffset, rootBytes); err != nil {
		return nil, err
	}
	if format != nil {
		if err := format(ctx, s.partition); err != nil {
			return nil, err
		}
	}
	if err := unix.Mount(s.partition, root, "ext4", 0, ""); err != nil {
		return nil, fmt.Errorf("mount %s at %s: %w", s.partition, root, err)
	}
	s.mounted = true
	undo.Success()
	return s, nil
}

// Close unmounts the root and detaches both devices. It may be called again after
// an error, and does then what is left to do.
func (s *Source) Close() error {
	// The caller's context may have ended: that is one of the reasons to clean up.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if s.mounted {
		if err := unmount(ctx, s.Root); err != nil {
			return err
		}
		s.mounted = false
	}
	for _, device := range []*string{&s.partition, &s.Disk} {
		if *device == "" {
			continue
		}
		if err := detachLoop(ctx, *device); err != nil {
			return err
		}
		*device = ""
	}
	if s.ownsRoot {
		s.ownsRoot = false
		return os.Remove(s.Root)
	}
	return nil
}

// unmount unmounts path. Processes that were just killed may still hold it, so it
// tries for some seconds. It is no error if nothing is mounted there.
func unmount(ctx context.Context, path string) error {
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		switch {
		case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY), time.Now().After(deadline):
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("unmount %s: %w", path, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// attachLoop attaches the part [offset, offset+size) of a file or block device to
// a free loop device with direct I/O; size 0 means up to the end.
func attachLoop(ctx context.Context, path string, offset, size int64) (string, error) {
	out, err := command.Run(ctx, "losetup", "--find", "--show", "--direct-io=on",
		"--offset", strconv.FormatInt(offset, 10), "--sizelimit", strconv.FormatInt(size, 10), path)
	return strings.TrimSpace(string(out)), err
}

// detachLoop detaches a loop device and waits until the kernel has done it: it is
// put off while somebody has the device open.
func detachLoop(ctx context.Context, device string) error {
	if _, err := command.Run(ctx, "losetup", "--detach", device); err != nil {
		return err
	}
	for {
		data, err := os.ReadFile("/sys/block/" + strings.TrimPrefix(device, "/dev/") + "/loop/backing_file")
		if err != nil || len(data) == 0 {
			return nil //nolint:nilerr // no backing file is what we wait for
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("detach %s: still in use", device)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// loopsOf returns the loop devices whose backing file is path.
func loopsOf(ctx context.Context, path string) ([]string, error) {
	out, err := command.Run(ctx, "losetup", "--json", "--list", "--output", "NAME", "--associated", path)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	var list struct {
		Loops []struct{ Name string } `json:"loopdevices"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("read losetup's answer: %w", err)
	}
	var names []string
	for _, l := range list.Loops {
		names = append(names, l.Name)
	}
	return names, nil
}
