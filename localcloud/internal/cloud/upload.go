package cloud

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"rehost/internal/revert"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// UploadRequest asks for a snapshot that a client writes block by block.
type UploadRequest struct {
	SizeGiB int64
	// Parent is the snapshot whose blocks it begins with, or "".
	Parent        string
	Description   string
	Encrypted     bool
	KMSKeyID      string
	Tags          map[string]string
	Token, Digest string
}

// StartSnapshot makes a snapshot that is pending until CompleteSnapshot. With a
// client token that was used before it returns what that call made.
func (c *Cloud) StartSnapshot(r UploadRequest) (*state.Snapshot, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	id, err := replayed(st, "StartSnapshot", r.Token, r.Digest)
	if err != nil {
		return nil, &fault.Error{Code: "ConflictException", Message: err.Error(), Status: 409}
	}
	if s := st.Snapshots[id]; s != nil {
		return s, nil
	}
	s := &state.Snapshot{
		ID: state.NewID("snap"), Open: true, VolumeID: noVolume, Parent: r.Parent, SizeGiB: r.SizeGiB, Description: r.Description,
		Encrypted: r.Encrypted, KMSKeyID: r.KMSKeyID, Created: time.Now(),
	}
	if err := c.checkUpload(s); err != nil {
		return nil, err
	}
	var undo revert.Stack
	defer undo.Fail()
	path := c.SnapshotPath(s.ID)
	undo.Add(func() { _ = os.Remove(path) })
	if r.Parent == "" {
		err = c.Pool.CreateSparse(path, s.SizeGiB<<30)
	} else if err = c.Pool.Clone(c.SnapshotPath(r.Parent), path); err == nil {
		err = grow(path, s.SizeGiB<<30)
	}
	if err != nil {
		return nil, err
	}
	err = c.Store.Update(func(st *state.State) error {
		st.Snapshots[s.ID] = s
		remember(st, "StartSnapshot", r.Token, r.Digest, s.ID)
		return errors.Join(setTags(st, s.ID, r.Tags), c.Quotas.snapshots(st))
	})
	if err != nil {
		return nil, err
	}
	undo.Success()
	return s, nil
}

// noVolume is what EC2 gives as the volume of a snapshot that was not made of one.
const noVolume = "vol-ffffffff"

func (c *Cloud) checkUpload(s *state.Snapshot) error {
	if s.SizeGiB < 1 || s.SizeGiB > largestVolume {
		return refusedBlock("INVALID_VOLUME_SIZE", "The volume size must be 1 to %d GiB.", largestVolume)
	}
	if s.Parent != "" {
		parent, err := c.finished(s.Parent)
		if err != nil {
			return err
		}
		if s.SizeGiB < parent.SizeGiB {
			return refusedBlock("INVALID_VOLUME_SIZE", "The volume size must be at least that of the parent, %d GiB.", parent.SizeGiB)
		}
		s.Encrypted = s.Encrypted || parent.Encrypted
	}
	if err := c.checkKey(&state.Mapping{Encrypted: s.Encrypted, KMSKeyID: s.KMSKeyID}); err != nil {
		return refusedBlock("INVALID_CUSTOMER_KEY", "%s", err)
	}
	return c.room()
}

// uploadPath is the list of the blocks that were written to a snapshot, which
// CompleteSnapshot counts.
func (c *Cloud) uploadPath(id string) string { return filepath.Join(c.Dir, "uploads", id) }

// PutBlock writes one block of a snapshot that is not completed.
func (c *Cloud) PutBlock(id string, index int64, block []byte) error {
	c.uploads.RLock()
	defer c.uploads.RUnlock()
	s := c.Store.View().Snapshots[id]
	switch {
	case s == nil:
		return noSnapshot(id)
	case !s.Open:
		return refusedBlock("INVALID_SNAPSHOT_ID", "The snapshot '%s' is not pending.", id)
	case index < 0 || index >= s.SizeGiB<<30/BlockSize:
		return refusedBlock("INVALID_BLOCK", "The snapshot '%s' has no block %d.", id, index)
	case len(block) != BlockSize:
		return refusedBlock("INVALID_BLOCK", "A block has %d bytes, not %d.", BlockSize, len(block))
	}
	if err := c.room(); err != nil {
		return err
	}
	if err := writeAt(c.SnapshotPath(id), os.O_WRONLY, block, index*BlockSize); err != nil {
		return fmt.Errorf("put block: %w", err)
	}
	number := binary.LittleEndian.AppendUint64(nil, uint64(index))
	if err := writeAt(c.uploadPath(id), os.O_CREATE|os.O_WRONLY|os.O_APPEND, number, -1); err != nil {
		return fmt.Errorf("put block: %w", err)
	}
	return nil
}

// writeAt writes to a place of a file, or to the end if offset is negative.
func writeAt(path string, flags int, b []byte, offset int64) error {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return err
	}
	if offset < 0 {
		_, err = f.Write(b)
	} else {
		_, err = f.WriteAt(b, offset)
	}
	return errors.Join(err, f.Close())
}

// CompleteSnapshot makes a written snapshot durable and usable. changed is how
// many blocks the client wrote, which must be what arrived.
func (c *Cloud) CompleteSnapshot(id string, changed int) error {
	c.ops.Lock()
	defer c.ops.Unlock()
	c.uploads.Lock()
	defer c.uploads.Unlock()
	s := c.Store.View().Snapshots[id]
	switch {
	case s == nil:
		return noSnapshot(id)
	case !s.Open:
		return nil // completed by an earlier attempt
	}
	written, err := readNumbers(c.uploadPath(id))
	if err != nil {
		return fmt.Errorf("complete snapshot: %w", err)
	}
	if changed != len(written) {
		return refusedBlock("INVALID_PARAMETER_VALUE", "The snapshot '%s' got %d blocks, not %d.", id, len(written), changed)
	}
	if err := grow(c.SnapshotPath(id), s.SizeGiB<<30); err != nil { // flushes
		return err
	}
	err = c.Store.Update(func(st *state.State) error {
		st.Snapshots[id].Open = false
		return nil
	})
	if err == nil {
		_ = os.Remove(c.uploadPath(id)) // if not, the next start does
	}
	return err
}

// readNumbers returns the different block numbers in a list.
func readNumbers(path string) ([]uint64, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	var out []uint64
	for ; len(raw) >= 8; raw = raw[8:] {
		out = append(out, binary.LittleEndian.Uint64(raw))
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
