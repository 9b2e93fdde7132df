package stamp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

// usualPause is the mean time between two writes of one writer. Together they write about 5 MB/s, which two busy cores
// replicate with ease: the test is about what is written, not how much.
const usualPause = 60 * time.Millisecond

// largest is the most that one write covers.
const largest = 128 << 10

// Writer writes to one part of a disk until its context ends.
type Writer struct {
	part    *Part
	gate    *Gate
	seed    uint64
	rng     *rand.Rand
	pause   time.Duration // mean, between two writes
	counter uint64
	buf     []byte // fit for direct I/O
	raw     *os.File
	files   []*file // of a filesystem
	next    uint32  // number of the next file
}

// Run writes until ctx ends. Its error names the write that failed.
func (w *Writer) Run(ctx context.Context) (err error) {
	if w.buf, err = blockdev.AlignedBuffer(largest); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blockdev.FreeBuffer(w.buf)) }()
	step := w.fileStep
	switch w.part.Kind {
	case "mkfs":
		step = w.mkfsStep
	case "raw":
		if w.raw, err = os.OpenFile(w.part.Device, os.O_RDWR|unix.O_DIRECT, 0); err != nil {
			return fmt.Errorf("open the raw disk: %w", err)
		}
		defer func() { err = errors.Join(err, w.raw.Close()) }()
		step = w.rawStep
	}
	for ctx.Err() == nil {
		w.counter++
		if err := step(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write %d to the %s part of disk %d: %w", w.counter, w.part.Kind, w.part.Disk, err)
		}
		select {
		case <-time.After(w.pause/2 + rand.N(w.pause)):
		case <-ctx.Done():
		}
	}
	return nil
}

// run picks a run of sectors within size bytes, aligned to align, and returns its offset and the buffer for it.
func (w *Writer) run(size, align int64) (offset int64, b []byte) {
	n := (1 + w.rng.Int64N(min(largest, size)/align)) * align
	return w.rng.Int64N((size-n)/align+1) * align, w.buf[:n]
}

// rawStep writes to the raw part, past every cache.
func (w *Writer) rawStep(context.Context) error {
	return w.gate.Pass(func() error {
		offset, b := w.run(w.part.Bytes, Sector)
		offset += w.part.Offset
		switch w.rng.IntN(8) {
		case 0:
			return w.rangeCall(unix.BLKDISCARD, offset, b)
		case 1:
			return w.rangeCall(unix.BLKZEROOUT, offset, b)
		}
		Stamp{Seed: w.seed, Disk: uint32(w.part.Disk), Sector: uint64(offset / Sector), Counter: w.counter}.Fill(b)
		_, err := w.raw.WriteAt(b, offset)
		return err
	})
}

// rangeCall is an ioctl on the sectors that b would have covered.
func (w *Writer) rangeCall(request uint, offset int64, b []byte) error {
	span := [2]uint64{uint64(offset), uint64(len(b))}
	if err := ioctl(w.raw, request, unsafe.Pointer(&span)); err != nil {
		return fmt.Errorf("ioctl %#x at %d, %d bytes: %w", request, offset, len(b), err)
	}
	return nil
}

func ioctl(f *os.File, request uint, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), uintptr(request), uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
