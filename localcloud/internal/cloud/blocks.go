package cloud

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// BlockSize is that of the EBS direct APIs, in bytes.
const BlockSize = 512 << 10

// Errors of these verbs have the codes of the EBS direct APIs: an exception and
// after a colon its reason.

func noSnapshot(id string) error {
	return &fault.Error{Code: "ResourceNotFoundException:SNAPSHOT_NOT_FOUND", Status: 404, Message: "The snapshot '" + id + "' does not exist."}
}

func refusedBlock(reason, format string, args ...any) error {
	return fault.New("ValidationException:"+reason, format, args...)
}

// finished returns a snapshot that can be read.
func (c *Cloud) finished(id string) (*state.Snapshot, error) {
	s := c.Store.View().Snapshots[id]
	if s == nil {
		return nil, noSnapshot(id)
	}
	if c.SnapshotStatus(s) != "completed" {
		return nil, refusedBlock("INVALID_SNAPSHOT_ID", "The snapshot '%s' is not completed.", id)
	}
	return s, nil
}

// openSnapshot opens the file of a finished snapshot.
func (c *Cloud) openSnapshot(id string) (*os.File, *state.Snapshot, error) {
	s, err := c.finished(id)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(c.SnapshotPath(id))
	if os.IsNotExist(err) {
		return nil, nil, noSnapshot(id) // deleted meanwhile
	}
	return f, s, err
}

// Blocks returns the indexes, beginning with from, of at most most blocks of a
// snapshot that hold data, and the index to go on with, -1 at the end.
func (c *Cloud) Blocks(id string, from int64, most int) (s *state.Snapshot, blocks []int64, next int64, err error) {
	f, s, err := c.openSnapshot(id)
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { _ = f.Close() }()
	for i := from; ; i++ {
		if i, err = nextBlock(f, i); err != nil || i < 0 {
			return s, blocks, -1, err
		}
		if len(blocks) == most {
			return s, blocks, i, nil
		}
		blocks = append(blocks, i)
	}
}

// nextBlock returns the first block from the index on that holds data, or -1.
func nextBlock(f *os.File, index int64) (int64, error) {
	at, err := unix.Seek(int(f.Fd()), index*BlockSize, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return -1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for data in %s: %w", f.Name(), err)
	}
	return at / BlockSize, nil
}

// Changed is a block that differs between two snapshots. A side that has no
// data there is false.
type Changed struct {
	Index         int64
	First, Second bool
}

// ChangedBlocks returns which blocks differ between two snapshots of the same
// volume, as Blocks does. It compares the content of what holds data in both.
func (c *Cloud) ChangedBlocks(first, second string, from int64, most int) (s *state.Snapshot, blocks []Changed, next int64, err error) {
	a, sa, err := c.openSnapshot(first)
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { _ = a.Close() }()
	b, s, err := c.openSnapshot(second)
	if err != nil {
		return nil, nil, 0, err
	}
	defer func() { _ = b.Close() }()
	if sa.VolumeID != s.VolumeID && s.Parent != first {
		return nil, nil, 0, refusedBlock("UNRELATED_SNAPSHOTS", "The snapshots '%s' and '%s' are not of the same volume.", first, second)
	}
	left, right := make([]byte, BlockSize), make([]byte, BlockSize)
	for i := from; ; i++ {
		ch, err := nextOfEither(a, b, i)
		if err != nil || ch.Index < 0 {
			return s, blocks, -1, err
		}
		i = ch.Index
		same := false
		if ch.First && ch.Second {
			same, err = sameBlock(a, b, i, left, right)
		}
		switch {
		case err != nil:
			return nil, nil, 0, err
		case same:
		case len(blocks) == most:
			return s, blocks, i, nil
		default:
			blocks = append(blocks, ch)
		}
	}
}

// nextOfEither returns the first block from the index on that holds data in one
// of the files; its index is -1 when there is none.
func nextOfEither(a, b *os.File, index int64) (Changed, error) {
	inA, err := nextBlock(a, index)
	if err != nil {
		return Changed{}, err
	}
	inB, err := nextBlock(b, index)
	if err != nil {
		return Changed{}, err
	}
	i := max(inA, inB)
	if inA >= 0 && inB >= 0 {
		i = min(inA, inB)
	}
	return Changed{Index: i, First: inA == i, Second: inB == i}, nil
}

func sameBlock(a, b *os.File, index int64, left, right []byte) (bool, error) {
	if err := readBlock(a, index, left); err != nil {
		return false, err
	}
	if err := readBlock(b, index, right); err != nil {
		return false, err
	}
	return bytes.Equal(left, right), nil
}

// readBlock fills buf; what is beyond the file's end is zero.
func readBlock(f *os.File, index int64, buf []byte) error {
	n, err := f.ReadAt(buf, index*BlockSize)
	if errors.Is(err, io.EOF) {
		clear(buf[n:])
		err = nil
	}
	return err
}

// ReadBlock returns a block of a snapshot.
func (c *Cloud) ReadBlock(id string, index int64) ([]byte, error) {
	f, s, err := c.openSnapshot(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if index < 0 || index >= s.SizeGiB<<30/BlockSize {
		return nil, refusedBlock("INVALID_PARAMETER_VALUE", "The snapshot '%s' has no block %d.", id, index)
	}
	buf := make([]byte, BlockSize)
	return buf, readBlock(f, index, buf)
}
