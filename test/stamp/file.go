package stamp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
)

const (
	maxFiles = 16
	fileSize = 512 << 10
	fitrim   = 0xc0185879
)

// file is a file of a writer. Its size is a multiple of the sector's.
type file struct {
	path   string
	number uint32
	size   int64
}

// mkfsStep makes a new filesystem now and then.
func (w *Writer) mkfsStep(ctx context.Context) error {
	if w.rng.IntN(20) > 0 {
		return nil
	}
	return w.gate.Pass(func() error { // mkfs writes to the raw part of a disk, which no freeze stops
		args := append(slices.Clone(mkfs["mkfs"]), w.part.Device)
		_, err := command.Run(context.WithoutCancel(ctx), args[0], args[1:]...)
		return err
	})
}

// fileStep does to a filesystem one of the things that programs do to it. When it is full, files are removed.
func (w *Writer) fileStep(context.Context) error {
	if len(w.files) < 2 {
		return w.create()
	}
	f := w.files[w.rng.IntN(len(w.files))]
	steps := []func(*file) error{
		w.buffered, w.buffered, w.buffered, w.direct, w.direct, w.mapped, w.mapped, w.punch, w.truncate, w.rename, w.remove, w.trim,
		func(*file) error { return w.create() }, func(*file) error { return w.create() },
	}
	err := steps[w.rng.IntN(len(steps))](f)
	if errors.Is(err, unix.ENOSPC) {
		return errors.Join(w.remove(w.files[0]), w.sync(filepath.Dir(f.path)))
	}
	return err
}

func (w *Writer) create() error {
	if len(w.files) >= maxFiles {
		return w.remove(w.files[w.rng.IntN(len(w.files))])
	}
	w.next++
	f := &file{path: filepath.Join(w.part.Mount, fmt.Sprintf("file%d", w.next)), number: w.next, size: fileSize}
	w.files = append(w.files, f)
	return w.buffered(f)
}

// with opens a file, runs fn and closes it.
func (w *Writer) with(f *file, flags int, fn func(*os.File) error) error {
	o, err := os.OpenFile(f.path, os.O_RDWR|os.O_CREATE|flags, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(fn(o), o.Close())
}

// stamped picks a run of the file and stamps it.
func (w *Writer) stamped(f *file, align int64) (offset int64, b []byte) {
	offset, b = w.run(f.size, align)
	Stamp{Seed: w.seed, Disk: uint32(w.part.Disk), File: f.number, Sector: uint64(offset / Sector), Counter: w.counter}.Fill(b)
	return offset, b
}

func (w *Writer) buffered(f *file) error {
	return w.with(f, 0, func(o *os.File) error {
		offset, b := w.stamped(f, Sector)
		_, err := o.WriteAt(b, offset)
		if err == nil && w.rng.IntN(3) == 0 {
			err = o.Sync()
		}
		return err
	})
}

func (w *Writer) direct(f *file) error {
	return w.with(f, unix.O_DIRECT, func(o *os.File) error {
		offset, b := w.stamped(f, 4096)
		_, err := o.WriteAt(b, offset)
		return err
	})
}

func (w *Writer) mapped(f *file) error {
	return w.with(f, 0, func(o *os.File) error {
		// All blocks must be there: a fault on a full filesystem would be a signal.
		if err := unix.Fallocate(int(o.Fd()), 0, 0, f.size); err != nil {
			return err
		}
		m, err := unix.Mmap(int(o.Fd()), 0, int(f.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return fmt.Errorf("map: %w", err)
		}
		offset, b := w.stamped(f, Sector)
		copy(m[offset:], b)
		if w.rng.IntN(3) == 0 {
			err = unix.Msync(m, unix.MS_SYNC)
		}
		return errors.Join(err, unix.Munmap(m))
	})
}

func (w *Writer) punch(f *file) error {
	return w.with(f, 0, func(o *os.File) error {
		offset, b := w.run(f.size, Sector)
		return unix.Fallocate(int(o.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, int64(len(b)))
	})
}

func (w *Writer) truncate(f *file) error {
	f.size = (1 + w.rng.Int64N(fileSize/4096)) * 4096
	return os.Truncate(f.path, f.size)
}

func (w *Writer) rename(f *file) error {
	to := filepath.Join(w.part.Mount, fmt.Sprintf("file%d.%d", f.number, w.counter))
	if err := os.Rename(f.path, to); err != nil {
		return err
	}
	f.path = to
	return nil
}

func (w *Writer) remove(f *file) error {
	w.files = slices.DeleteFunc(w.files, func(o *file) bool { return o == f })
	err := os.Remove(f.path)
	if errors.Is(err, os.ErrNotExist) { // its creation found the disk full
		return nil
	}
	return err
}

// trim discards what the filesystem does not use. It goes through the gate: no filesystem keeps FITRIM from a frozen disk, so
// that free blocks could become zeros between the last read and the frozen copy.
func (w *Writer) trim(f *file) error {
	if w.rng.IntN(4) > 0 {
		return nil
	}
	return w.gate.Pass(func() error {
		return w.with(f, 0, func(o *os.File) error {
			span := [3]uint64{0, ^uint64(0), 0}
			if err := ioctl(o, fitrim, unsafe.Pointer(&span)); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("discard free space: %w", err)
			}
			return nil
		})
	})
}

func (w *Writer) sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
