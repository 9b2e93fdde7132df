// Package pool owns a folder on a filesystem with reflinks, where a copy of a
// file takes milliseconds and shares its blocks. Where the data folder has no
// reflinks it makes a sparse XFS image and loop-mounts it. It never looks into
// the files it holds, and never touches a mount or loop device of anybody else.
package pool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
)

const (
	// minSize is the smallest filesystem that mkfs.xfs makes.
	minSize = 300 << 20
	// unmountPatience is how long Close waits for a file that is still open
	// somewhere, such as by a process that was killed a moment ago.
	unmountPatience = 5 * time.Second
)

// Options say where the pool is and how large its image may grow.
type Options struct {
	// Dir is the data folder; the pool's files live in Dir/pool.
	Dir string
	// SizeBytes is the size of the sparse image, if one must be made. An
	// existing image keeps its size.
	SizeBytes int64
}

// Pool is an open pool. Its methods may be called concurrently.
type Pool struct {
	root    string
	lock    *os.File
	mounted bool
}

// Open makes or reopens the pool. It is idempotent: an existing image is
// mounted again, a mount that a killed process left is taken over. A pool that
// another living process holds is an error.
func Open(ctx context.Context, o Options) (*Pool, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open pool %s: %w", o.Dir, err)
	}
	root := filepath.Join(dir, "pool")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, fmt.Errorf("make pool folder: %w", err)
	}
	lock, err := takeLock(filepath.Join(dir, "pool.lock"))
	if err != nil {
		return nil, err
	}
	p := &Pool{root: root, lock: lock}
	if err := p.open(ctx, dir, o.SizeBytes); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return p, nil
}

func (p *Pool) open(ctx context.Context, dir string, sizeBytes int64) error {
	mounted, err := isMountPoint(p.root)
	if err != nil {
		return err
	}
	image := filepath.Join(dir, "pool.img")
	switch {
	case mounted:
		p.mounted = true
		return nil
	case !exists(image) && Supported(p.root):
		return nil
	case !exists(image):
		if err := makeImage(ctx, image, sizeBytes); err != nil {
			return err
		}
	}
	return p.mount(ctx, image)
}

// mount loop-mounts the image. The loop device is made by mount(8), so that it
// disappears with the mount, whoever unmounts it.
func (p *Pool) mount(ctx context.Context, image string) error {
	if os.Geteuid() != 0 {
		return hint.New("mount pool "+image+": not root", "run as root, or use a data folder on XFS or btrfs with reflinks")
	}
	// discard gives the space of deleted files back to the image's filesystem.
	if _, err := command.Run(ctx, "mount", "-t", "xfs", "-o", "loop,discard,noatime", image, p.root); err != nil {
		return hint.Wrap(fmt.Errorf("mount pool: %w", err), "check that loop devices and xfs are there: ls /dev/loop-control; grep xfs /proc/filesystems")
	}
	p.mounted = true
	// Direct I/O avoids caching every byte twice: it doubles the write rate. A
	// filesystem that cannot do it still works.
	if dev, err := loopOf(ctx, image); err == nil && dev != "" {
		_, _ = command.Run(ctx, "losetup", "--direct-io=on", dev)
	}
	return nil
}

// Root returns the folder where the pool's files live.
func (p *Pool) Root() string { return p.root }

// Clone makes dst a copy of src that shares its blocks. src is flushed first;
// when Clone returns, dst is durable. dst must not exist.
func (p *Pool) Clone(src, dst string) error {
	if err := clone(src, dst); err != nil {
		return fmt.Errorf("clone %s: %w", filepath.Base(src), p.explain(err))
	}
	return nil
}

// CreateSparse makes an empty file of the given size that takes no space yet.
// When it returns, the file is durable. path must not exist.
func (p *Pool) CreateSparse(path string, sizeBytes int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", filepath.Base(path), p.explain(err))
	}
	err = errors.Join(f.Truncate(sizeBytes), f.Sync(), f.Close(), syncDir(path))
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("create %s: %w", filepath.Base(path), p.explain(err))
	}
	return nil
}

// Free returns how many bytes the pool can still take. A sparse image may sit
// on a filesystem with less room than it promises, so the smaller number counts.
func (p *Pool) Free() (int64, error) {
	free, err := freeBytes(p.root)
	if err != nil || !p.mounted {
		return free, err
	}
	below, err := freeBytes(filepath.Dir(p.root))
	return min(free, below), err
}

// Close unmounts the pool, which frees its loop device. The files stay.
func (p *Pool) Close() error {
	defer func() { _ = p.lock.Close() }()
	if !p.mounted {
		return nil
	}
	deadline := time.Now().Add(unmountPatience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Unmount(p.root, 0)
		if err == nil || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return hint.Wrap(fmt.Errorf("unmount pool %s: %w", p.root, err), "end what uses it (fuser -vm "+p.root+"), then: umount "+p.root)
		}
		<-tick.C
	}
}

func (p *Pool) explain(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return hint.Wrap(fmt.Errorf("pool %s is full: %w", p.root, err), "delete snapshots and volumes that nobody needs, or free space under "+filepath.Dir(p.root))
	}
	return err
}

func makeImage(ctx context.Context, image string, sizeBytes int64) error {
	if sizeBytes < minSize {
		return hint.New(fmt.Sprintf("make pool image: %d bytes is too small", sizeBytes), "give the pool at least 300 MiB")
	}
	// A half-made image must never look like a finished one.
	tmp := image + ".new"
	defer func() { _ = os.Remove(tmp) }()
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make pool image: %w", err)
	}
	if err := errors.Join(f.Truncate(sizeBytes), f.Close()); err != nil {
		return hint.Wrap(fmt.Errorf("make pool image: %w", err), "use a data folder whose filesystem has sparse files")
	}
	if _, err := command.Run(ctx, "mkfs.xfs", "-q", "-m", "reflink=1", tmp); err != nil {
		if hint.Of(err) != "" {
			return hint.Wrap(fmt.Errorf("make pool image: %w", err), "apt-get install xfsprogs")
		}
		return fmt.Errorf("make pool image: %w", err)
	}
	if err := os.Rename(tmp, image); err != nil {
		return fmt.Errorf("make pool image: %w", err)
	}
	return syncDir(image)
}

func loopOf(ctx context.Context, image string) (string, error) {
	out, err := command.Run(ctx, "losetup", "--noheadings", "--output", "NAME", "--associated", image)
	return strings.TrimSpace(string(out)), err
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock pool: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, hint.Wrap(fmt.Errorf("lock pool %s: %w", path, err), "another process uses this data folder: stop it, or give another folder")
	}
	return f, nil
}
