package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"rehost/internal/hint"
	"rehost/internal/revert"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// RegisterImage makes an image of snapshots. Its name must be new.
func (c *Cloud) RegisterImage(im *state.Image, tags map[string]string) (*state.Image, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	im.ID, im.Kind, im.Created = state.NewID("ami"), state.Guest, time.Now()
	err := c.Store.Update(func(st *state.State) error {
		for _, other := range st.Images {
			if other.Name == im.Name {
				return fault.New("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", im.Name, other.ID)
			}
		}
		root := false
		for i := range im.Mappings {
			m := &im.Mappings[i]
			snap, err := c.checkMapping(st, m)
			if err != nil {
				return err
			}
			root = root || (m.Device == im.RootDevice && snap != nil)
		}
		if !root {
			return fault.New("InvalidBlockDeviceMapping", "The root device '%s' needs a mapping with a snapshot", im.RootDevice)
		}
		st.Images[im.ID] = im
		return setTags(st, im.ID, tags)
	})
	return im, err
}

// checkMapping completes a block device of an image and returns its snapshot, if it has one.
func (c *Cloud) checkMapping(st *state.State, m *state.Mapping) (*state.Snapshot, error) {
	if err := checkType(m); err != nil {
		return nil, err
	}
	snap := st.Snapshots[m.SnapshotID]
	if snap == nil {
		if m.SnapshotID != "" {
			return nil, fault.NotFound("InvalidSnapshot", m.SnapshotID)
		}
		return nil, nil
	}
	if m.SizeGiB == 0 {
		m.SizeGiB = snap.SizeGiB
	}
	if m.SizeGiB < snap.SizeGiB {
		return nil, fault.New("InvalidBlockDeviceMapping", "Volume of size %d GiB is smaller than snapshot '%s', expect size >= %d GiB", m.SizeGiB, snap.ID, snap.SizeGiB)
	}
	return snap, c.complete(snap)
}

// DeregisterImage forgets an image. Its snapshots stay.
func (c *Cloud) DeregisterImage(id string) error {
	return c.Store.Update(func(st *state.State) error {
		if st.Images[id] == nil {
			return fault.NotFound("InvalidAMIID", id)
		}
		delete(st.Images, id)
		delete(st.Tags, id)
		return nil
	})
}

// OwnImage is an image that the configuration brings: a disk (Path) or a program.
type OwnImage struct {
	Name, Description string
	Path              string
	Program           []string
	Architecture      string
	BootMode          string
}

// ownRoot is the root device of a configured disk image.
const ownRoot = "/dev/xvda"

// EnsureImage registers a configured image under an id that depends on its name
// only. A disk file that changed since is taken in again; running instances
// keep what they have.
func (c *Cloud) EnsureImage(ctx context.Context, o OwnImage) error {
	c.ops.Lock()
	defer c.ops.Unlock()
	im := &state.Image{
		ID: stableID("ami", c.Account, o.Name), Name: o.Name, Description: o.Description, Architecture: o.Architecture,
		BootMode: o.BootMode, ENA: true, Created: time.Now(),
	}
	if len(o.Program) > 0 {
		im.Kind, im.Program = state.Process, o.Program
		return c.Store.Update(func(st *state.State) error {
			if old := st.Images[im.ID]; old != nil {
				im.Created = old.Created
			}
			st.Images[im.ID] = im
			return nil
		})
	}
	im.Kind, im.RootDevice = state.Guest, ownRoot
	return c.ensureDisk(ctx, im, o.Path)
}

func (c *Cloud) ensureDisk(ctx context.Context, im *state.Image, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return hint.Wrap(fmt.Errorf("register image %s: %w", im.Name, err), "build the image file, or take it out of the local cloud's configuration")
	}
	im.Source = fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
	old := c.Store.View().Images[im.ID]
	if old != nil && old.Source == im.Source {
		return nil
	}
	snap := &state.Snapshot{
		ID: state.NewID("snap"), SizeGiB: max(1, (info.Size()+(1<<30)-1)>>30), Description: "Root of " + im.Name, Created: info.ModTime(),
	}
	im.Mappings = []state.Mapping{{Device: ownRoot, SnapshotID: snap.ID, SizeGiB: snap.SizeGiB, Type: "gp3", DeleteOnTermination: true}}
	var undo revert.Stack
	defer undo.Fail()
	dst := c.SnapshotPath(snap.ID)
	undo.Add(func() { _ = os.Remove(dst) })
	if err := c.Pool.Clone(path, dst); err != nil {
		// Not in the pool: an ordinary copy that leaves holes.
		if err := copySparse(ctx, path, dst); err != nil {
			return fmt.Errorf("register image %s: %w", im.Name, err)
		}
	}
	if err := grow(dst, snap.SizeGiB<<30); err != nil {
		return fmt.Errorf("register image %s: %w", im.Name, err)
	}
	err = c.Store.Update(func(st *state.State) error {
		st.Images[im.ID], st.Snapshots[snap.ID] = im, snap
		if old != nil {
			for _, m := range old.Mappings {
				delete(st.Snapshots, m.SnapshotID)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	undo.Success()
	if old != nil {
		for _, m := range old.Mappings {
			_ = os.Remove(c.SnapshotPath(m.SnapshotID))
		}
	}
	return nil
}

// RetireImages forgets configured images that the configuration has no more.
func (c *Cloud) RetireImages(names []string) error {
	keep := make([]string, 0, len(names))
	for _, n := range names {
		keep = append(keep, stableID("ami", c.Account, n))
	}
	var gone []string
	err := c.Store.Update(func(st *state.State) error {
		for id, im := range st.Images {
			configured := im.Kind == state.Process || im.Source != ""
			if !configured || slices.Contains(keep, id) {
				continue
			}
			delete(st.Images, id)
			for _, m := range im.Mappings {
				delete(st.Snapshots, m.SnapshotID)
				gone = append(gone, m.SnapshotID)
			}
		}
		return nil
	})
	for _, id := range gone {
		_ = os.Remove(c.SnapshotPath(id))
	}
	return err
}

// copySparse copies a file and leaves out blocks of zeros.
func copySparse(ctx context.Context, src, dst string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	buf, zero := make([]byte, 256<<10), make([]byte, 256<<10)
	for offset := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, buf)
		if n > 0 && string(buf[:n]) != string(zero[:n]) {
			if _, err := out.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.Join(out.Truncate(offset), out.Sync())
		}
		if err != nil {
			return err
		}
	}
}
