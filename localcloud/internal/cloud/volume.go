package cloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"rehost/internal/revert"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/instance"
	"rehost/localcloud/internal/state"
)

// largestVolume is EC2's limit in GiB.
const largestVolume = 65536

// VolumeRequest asks for a volume, empty or from a snapshot.
type VolumeRequest struct {
	state.Mapping
	Zone          string
	Tags          map[string]string
	Token, Digest string
	InitRate      *int64 // in MiB/s; nil: not asked for
}

// initRate is checked only: a volume here is whole at once. The bounds are those of EC2's API reference.
func (r VolumeRequest) initRate() (int64, error) {
	switch {
	case r.InitRate == nil:
		return 0, nil
	case r.SnapshotID == "":
		return 0, fault.New("InvalidParameterCombination", "The parameter VolumeInitializationRate is for volumes that are created from a snapshot.")
	case *r.InitRate < 100 || *r.InitRate > 300:
		return 0, fault.Invalid("volumeInitializationRate", fmt.Sprint(*r.InitRate), "It must be 100 to 300 MiB/s.")
	}
	return *r.InitRate, nil
}

// CreateVolume makes a volume. With a client token that was used before it
// returns what that call made.
func (c *Cloud) CreateVolume(r VolumeRequest) (*state.Volume, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	id, err := replayed(st, "CreateVolume", r.Token, r.Digest)
	if err != nil {
		return nil, err
	}
	if v := st.Volumes[id]; v != nil {
		return v, nil
	}
	if !slices.Contains(c.Zones(), r.Zone) {
		return nil, fault.New("InvalidZone.NotFound", "The zone '%s' does not exist.", r.Zone)
	}
	rate, err := r.initRate()
	if err != nil {
		return nil, err
	}
	var undo revert.Stack
	defer undo.Fail()
	v, err := c.makeVolume(st, r.Mapping, r.Zone, &undo)
	if err != nil {
		return nil, err
	}
	v.InitRate = rate
	err = c.Store.Update(func(st *state.State) error {
		st.Volumes[v.ID] = v
		remember(st, "CreateVolume", r.Token, r.Digest, v.ID)
		return errors.Join(setTags(st, v.ID, r.Tags), c.Quotas.volumes(st))
	})
	if err != nil {
		return nil, err
	}
	undo.Success()
	return v, nil
}

// makeVolume makes the file of a volume; the state does not know it yet.
func (c *Cloud) makeVolume(st *state.State, m state.Mapping, zone string, undo *revert.Stack) (*state.Volume, error) {
	if err := checkType(&m); err != nil {
		return nil, err
	}
	snap := st.Snapshots[m.SnapshotID]
	switch {
	case m.SnapshotID != "" && snap == nil:
		return nil, fault.NotFound("InvalidSnapshot", m.SnapshotID)
	case snap != nil && m.SizeGiB == 0:
		m.SizeGiB = snap.SizeGiB
	case snap != nil && m.SizeGiB < snap.SizeGiB:
		return nil, fault.Invalid("size", fmt.Sprint(m.SizeGiB), fmt.Sprintf("The snapshot %s needs at least %d GiB.", snap.ID, snap.SizeGiB))
	case snap == nil && m.SizeGiB == 0:
		return nil, fault.Missing("size/snapshot")
	}
	if err := c.checkKey(&m); err != nil {
		return nil, err
	}
	if snap != nil {
		if err := c.complete(snap); err != nil {
			return nil, err
		}
	}
	if m.SizeGiB < 1 || m.SizeGiB > largestVolume {
		return nil, fault.Invalid("size", fmt.Sprint(m.SizeGiB), fmt.Sprintf("It must be 1 to %d GiB.", largestVolume))
	}
	if err := c.room(); err != nil {
		return nil, err
	}
	v := &state.Volume{
		ID: state.NewID("vol"), SizeGiB: m.SizeGiB, SnapshotID: m.SnapshotID, Type: m.Type, IOPS: m.IOPS, Throughput: m.Throughput,
		Encrypted: m.Encrypted || (snap != nil && snap.Encrypted), KMSKeyID: m.KMSKeyID, Zone: zone, Created: time.Now(),
	}
	path := c.VolumePath(v.ID)
	undo.Add(func() { _ = os.Remove(path) })
	if snap == nil {
		return v, c.Pool.CreateSparse(path, m.SizeGiB<<30)
	}
	if err := c.Pool.Clone(c.SnapshotPath(snap.ID), path); err != nil {
		return nil, err
	}
	return v, grow(path, m.SizeGiB<<30)
}

// grow makes a file durably at least as large as sizeBytes.
func grow(path string, sizeBytes int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("grow: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err == nil && info.Size() < sizeBytes {
		err = f.Truncate(sizeBytes)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("grow: %w", err)
	}
	return nil
}

func checkType(m *state.Mapping) error {
	if m.Type == "" {
		m.Type = "gp3"
	}
	if !slices.Contains([]string{"standard", "gp2", "gp3", "io1", "io2", "st1", "sc1"}, m.Type) {
		return fault.Invalid("volumeType", m.Type, "Use gp3, gp2, io1, io2, st1, sc1 or standard.")
	}
	if m.Type == "gp3" {
		m.IOPS, m.Throughput = max(m.IOPS, 3000), max(m.Throughput, 125)
	}
	if (m.Type == "io1" || m.Type == "io2") && m.IOPS == 0 {
		return fault.Missing("iops")
	}
	return nil
}

// DeleteVolume forgets a volume that is not attached and removes its file.
func (c *Cloud) DeleteVolume(id string) error {
	c.ops.Lock()
	defer c.ops.Unlock()
	err := c.Store.Update(func(st *state.State) error {
		v := st.Volumes[id]
		if v == nil {
			return fault.NotFound("InvalidVolume", id)
		}
		if v.Attachment != nil {
			return fault.New("VolumeInUse", "Volume %s is currently attached to %s", id, v.Attachment.InstanceID)
		}
		delete(st.Volumes, id)
		delete(st.Tags, id)
		return nil
	})
	if err != nil {
		return err
	}
	return os.Remove(c.VolumePath(id))
}

// AttachVolume joins a volume to an instance, also to a running one.
func (c *Cloud) AttachVolume(ctx context.Context, volumeID, instanceID, device string) (*state.Volume, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	v, in := st.Volumes[volumeID], st.Instances[instanceID]
	switch {
	case v == nil:
		return nil, fault.NotFound("InvalidVolume", volumeID)
	case in == nil:
		return nil, fault.NotFound("InvalidInstanceID", instanceID)
	case v.Attachment != nil:
		return nil, fault.New("VolumeInUse", "%s is already attached to an instance", volumeID)
	case c.VolumeStatus(v) != "available":
		return nil, fault.New("IncorrectState", "Volume '%s' is in the '%s' state.", volumeID, c.VolumeStatus(v))
	case in.Phase != state.Running && in.Phase != state.Stopped && in.Phase != state.Pending:
		return nil, fault.New("IncorrectState", "Instance '%s' is not 'running' or 'stopped': it is '%s'", instanceID, in.Phase)
	case v.Zone != in.Zone:
		return nil, fault.New("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", volumeID, instanceID)
	}
	for _, other := range st.VolumesOf(in) {
		if other.Attachment.Device == device {
			return nil, fault.Invalid("unixDevice", device, "It is already in use.")
		}
	}
	err := c.Store.Update(func(st *state.State) error {
		v = st.Volumes[volumeID]
		v.Attachment = &state.Attachment{InstanceID: instanceID, Device: device, At: time.Now(), Order: st.NextOrder()}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// The record comes first: a crash in between is mended by the next start of the instance.
	if r := c.runningOf(instanceID); r != nil {
		if err := r.Attach(ctx, instance.Disk{VolumeID: volumeID, Path: c.VolumePath(volumeID)}); err != nil {
			_ = c.detached(volumeID)
			return nil, err
		}
	}
	return v, nil
}

// DetachVolume takes a volume away from its instance. It returns the volume as it was.
func (c *Cloud) DetachVolume(ctx context.Context, volumeID, instanceID, device string) (*state.Volume, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	v := st.Volumes[volumeID]
	switch {
	case v == nil:
		return nil, fault.NotFound("InvalidVolume", volumeID)
	case v.Attachment == nil:
		return nil, fault.New("IncorrectState", "Volume '%s' is in the 'available' state.", volumeID)
	case instanceID != "" && v.Attachment.InstanceID != instanceID,
		device != "" && v.Attachment.Device != device:
		return nil, fault.New("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'", volumeID, instanceID, device)
	}
	in := st.Instances[v.Attachment.InstanceID]
	r := c.runningOf(v.Attachment.InstanceID)
	if r != nil {
		if in.RootDevice == v.Attachment.Device {
			return nil, fault.New("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", volumeID, in.ID)
		}
		if err := r.Detach(ctx, volumeID); err != nil {
			return nil, fault.New("IncorrectState", "Volume '%s': %s", volumeID, err)
		}
	}
	return v, c.detached(volumeID)
}

func (c *Cloud) detached(volumeID string) error {
	return c.Store.Update(func(st *state.State) error {
		st.Volumes[volumeID].Attachment = nil
		return nil
	})
}
