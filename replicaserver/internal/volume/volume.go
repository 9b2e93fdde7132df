// Package volume finds the block device of an attached volume, and writes and flushes it. It knows nothing of frames,
// and never creates or attaches anything.
package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/hint"
	"rehost/internal/lock"
)

// chunkBytes is how finely a virgin volume remembers where it was written to.
const chunkBytes = 1 << 20

// Volume is an open volume. One goroutine may write to it; Flush may run beside that.
type Volume struct {
	dev *blockdev.Device
	// direct reads past the page cache what is really there; nil where the filesystem of an image cannot do that.
	direct *blockdev.Device
	// written has a bit for each chunk that may hold something else than zeros; nil: all may.
	written []uint64
}

// Open finds a volume by its id under the folder byID, as EC2 shows it, and opens it. virgin says that it has never
// been written to, so that zeros need not be written until something else was. Only one process may have it open: one
// that lags behind would put older content over newer.
func Open(byID, id string, virgin bool) (*Volume, error) {
	dev, err := blockdev.Open(path(byID, id), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.Wrap(fmt.Errorf("volume %s is not attached: %w", id, err), "wait for the attachment, or look at it: rehost status")
	}
	if err != nil {
		return nil, fmt.Errorf("open volume %s: %w", id, err)
	}
	if err := lock.File(dev.File); err != nil {
		return nil, errors.Join(hint.Wrap(fmt.Errorf("volume %s: %w", id, err), "end the other replication server; this one tries again by itself"), dev.Close())
	}
	v := &Volume{dev: dev}
	if v.direct, err = blockdev.Open(path(byID, id), os.O_RDONLY|unix.O_DIRECT); err != nil {
		v.direct = nil
	}
	if virgin {
		v.written = make([]uint64, (dev.SizeBytes/chunkBytes+64)/64)
	}
	return v, nil
}

// path returns where EC2 links an NVMe volume: its serial is the id without the hyphen.
func path(byID, id string) string {
	return filepath.Join(byID, "nvme-Amazon_Elastic_Block_Store_"+strings.ReplaceAll(id, "-", ""))
}

// SizeBytes returns the volume's size.
func (v *Volume) SizeBytes() int64 { return v.dev.SizeBytes }

// WriteAt writes b at offset. It is durable after the next Flush.
func (v *Volume) WriteAt(b []byte, offset int64) (int, error) {
	if v.written != nil {
		for c := offset / chunkBytes; c <= (offset+int64(len(b))-1)/chunkBytes; c++ {
			v.written[c/64] |= 1 << (c % 64)
		}
	}
	return v.dev.WriteAt(b, offset)
}

// Virgin says that nothing was written to the volume when it was opened, ever.
func (v *Volume) Virgin() bool { return v.written != nil }

// ReadAt reads what was written, from the medium where that is possible. b must be page-aligned. It may run beside a write.
func (v *Volume) ReadAt(b []byte, offset int64) (int, error) {
	if v.direct == nil || len(b)%v.direct.BlockBytes != 0 || offset%int64(v.direct.BlockBytes) != 0 {
		return v.dev.ReadAt(b, offset)
	}
	return v.direct.ReadAt(b, offset)
}

// Zero makes a range read as zeros, which is durable after the next Flush.
func (v *Volume) Zero(offset, length int64) error {
	if v.written == nil {
		return blockdev.Zero(v.dev.File, offset, length)
	}
	for length > 0 {
		c := offset / chunkBytes
		n := min(length, (c+1)*chunkBytes-offset)
		if v.written[c/64]&(1<<(c%64)) != 0 {
			if err := blockdev.Zero(v.dev.File, offset, n); err != nil {
				return err
			}
		}
		offset, length = offset+n, length-n
	}
	return nil
}

// Flush makes everything written so far durable.
func (v *Volume) Flush() error {
	for {
		err := unix.Fdatasync(int(v.dev.Fd()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("flush %s: %w", v.dev.Name(), err)
		}
		return nil
	}
}

// Close closes the volume; it does not flush.
func (v *Volume) Close() error {
	if v.direct != nil {
		return errors.Join(v.direct.Close(), v.dev.Close())
	}
	return v.dev.Close()
}
