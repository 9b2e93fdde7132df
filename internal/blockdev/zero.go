package blockdev

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Zero makes a range read as zeroes and frees its space where the disk or the filesystem can do that. Offset and
// length must be multiples of the logical block size. The zeroes are durable after the next Sync.
func Zero(f *os.File, offset, lengthBytes int64) error {
	if lengthBytes == 0 {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat disk: %w", err)
	}
	if info.Mode().IsRegular() {
		err = zeroFile(f, offset, lengthBytes)
	} else {
		span := [2]uint64{uint64(offset), uint64(lengthBytes)}
		err = ioctlPointer(f.Fd(), unix.BLKZEROOUT, unsafe.Pointer(&span))
	}
	if err != nil {
		return fmt.Errorf("zero %s at %d, %d bytes: %w", f.Name(), offset, lengthBytes, err)
	}
	return nil
}

// zeroFile punches a hole, or writes zeroes where holes are not known.
func zeroFile(f *os.File, offset, lengthBytes int64) error {
	err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, lengthBytes)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeroes, err := AlignedBuffer(int(min(lengthBytes, 1<<20)))
	if err != nil {
		return err
	}
	for lengthBytes > 0 && err == nil {
		n := min(lengthBytes, int64(len(zeroes)))
		_, err = f.WriteAt(zeroes[:n], offset)
		offset, lengthBytes = offset+n, lengthBytes-n
	}
	return errors.Join(err, FreeBuffer(zeroes))
}
