package cloud

import (
	"context"
	"maps"
	"os"
	"slices"
	"time"

	"rehost/internal/revert"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// CreateSnapshot copies a volume as it is now. The snapshot is complete and
// durable when it returns.
func (c *Cloud) CreateSnapshot(ctx context.Context, volumeID, description string, tags map[string]string) (*state.Snapshot, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	v := c.Store.View().Volumes[volumeID]
	if v == nil {
		return nil, fault.NotFound("InvalidVolume", volumeID)
	}
	if status := c.VolumeStatus(v); status == "creating" {
		return nil, fault.New("IncorrectState", "Volume '%s' is in the '%s' state.", volumeID, status)
	}
	snaps, err := c.snapshot(ctx, []*state.Volume{v}, description, func(*state.Volume) map[string]string { return tags })
	if err != nil {
		return nil, err
	}
	return snaps[0], nil
}

// SnapshotsRequest asks for snapshots of the volumes of an instance, all of the same moment.
type SnapshotsRequest struct {
	InstanceID  string
	Description string
	ExcludeBoot bool
	Exclude     []string
	CopyTags    bool
	Tags        map[string]string
}

// CreateSnapshots copies the volumes of an instance at one moment: all of them or none.
func (c *Cloud) CreateSnapshots(ctx context.Context, r SnapshotsRequest) ([]*state.Snapshot, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	in := st.Instances[r.InstanceID]
	if in == nil || in.Phase == state.Terminated {
		return nil, fault.NotFound("InvalidInstanceID", r.InstanceID)
	}
	attached := st.VolumesOf(in)
	for _, id := range r.Exclude {
		if !slices.ContainsFunc(attached, func(v *state.Volume) bool { return v.ID == id }) {
			return nil, fault.Invalid("ExcludeDataVolumeId", id, "It is not a data volume of "+in.ID+".")
		}
	}
	volumes := slices.DeleteFunc(attached, func(v *state.Volume) bool {
		return slices.Contains(r.Exclude, v.ID) || (r.ExcludeBoot && v.Attachment.Device == in.RootDevice)
	})
	if len(volumes) == 0 {
		return nil, fault.New("InvalidParameterValue", "Instance %s has no volume to make a snapshot of", in.ID)
	}
	return c.snapshot(ctx, volumes, r.Description, func(v *state.Volume) map[string]string {
		tags := map[string]string{}
		if r.CopyTags {
			maps.Copy(tags, st.Tags[v.ID])
		}
		maps.Copy(tags, r.Tags)
		return tags
	})
}

func (c *Cloud) snapshot(ctx context.Context, volumes []*state.Volume, description string, tags func(*state.Volume) map[string]string) ([]*state.Snapshot, error) {
	if err := c.room(); err != nil {
		return nil, err
	}
	var undo revert.Stack
	defer undo.Fail()
	// One clone is atomic by itself. Several are of one moment only while the
	// instance that writes to them stands still.
	if len(volumes) > 1 {
		if r := c.runningOf(volumes[0].Attachment.InstanceID); r != nil {
			if err := r.Pause(ctx); err != nil {
				return nil, err
			}
			defer r.Resume()
		}
	}
	now := time.Now()
	var out []*state.Snapshot
	for _, v := range volumes {
		s := &state.Snapshot{
			ID: state.NewID("snap"), VolumeID: v.ID, SizeGiB: v.SizeGiB, Description: description,
			Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID, Created: now,
		}
		path := c.SnapshotPath(s.ID)
		undo.Add(func() { _ = os.Remove(path) })
		if err := c.Pool.Clone(c.VolumePath(v.ID), path); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	err := c.Store.Update(func(st *state.State) error {
		for i, s := range out {
			st.Snapshots[s.ID] = s
			if err := setTags(st, s.ID, tags(volumes[i])); err != nil {
				return err
			}
		}
		return c.Quotas.snapshots(st)
	})
	if err != nil {
		return nil, err
	}
	undo.Success()
	return out, nil
}

// DeleteSnapshot forgets a snapshot that no image needs and removes its file.
// Volumes made from it share its blocks, not its file, and stay as they are.
func (c *Cloud) DeleteSnapshot(id string) error {
	c.ops.Lock()
	defer c.ops.Unlock()
	c.uploads.Lock()
	defer c.uploads.Unlock()
	err := c.Store.Update(func(st *state.State) error {
		if st.Snapshots[id] == nil {
			return fault.NotFound("InvalidSnapshot", id)
		}
		if image := st.ImageUsing(id); image != "" {
			return fault.New("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", id, image)
		}
		delete(st.Snapshots, id)
		delete(st.Tags, id)
		return nil
	})
	if err != nil {
		return err
	}
	_ = os.Remove(c.uploadPath(id)) // of one that was not completed
	return os.Remove(c.SnapshotPath(id))
}
