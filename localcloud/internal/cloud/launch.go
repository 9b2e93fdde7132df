package cloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"rehost/internal/revert"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// RunRequest asks for one instance.
type RunRequest struct {
	ImageID, Type, SubnetID, Zone string
	Groups                        []string
	// Overrides change or add to the image's block devices.
	Overrides                []Override
	UserData                 []byte
	KeyName                  string
	OnShutdown               string
	NoTerminate              bool
	Metadata                 state.MetadataOptions
	InstanceTags, VolumeTags map[string]string
	Token, Digest            string
}

// Override is a block device of a launch. Nil fields keep what the image says.
type Override struct {
	Device              string
	NoDevice            bool
	SnapshotID          *string
	SizeGiB             *int64
	Type                *string
	IOPS, Throughput    *int64
	Encrypted           *bool
	KMSKeyID            *string
	DeleteOnTermination *bool
}

// apply returns the mapping with the override's fields.
func (o Override) apply(m state.Mapping) state.Mapping {
	m.Device = o.Device
	set(&m.SnapshotID, o.SnapshotID)
	set(&m.SizeGiB, o.SizeGiB)
	set(&m.Type, o.Type)
	set(&m.IOPS, o.IOPS)
	set(&m.Throughput, o.Throughput)
	set(&m.Encrypted, o.Encrypted)
	set(&m.KMSKeyID, o.KMSKeyID)
	set(&m.DeleteOnTermination, o.DeleteOnTermination)
	return m
}

func set[T any](dst, value *T) {
	if value != nil {
		*dst = *value
	}
}

// mappings merges the image's block devices with the launch's, the root first.
func mappings(im *state.Image, overrides []Override) []state.Mapping {
	out := slices.Clone(im.Mappings)
	for _, o := range overrides {
		i := slices.IndexFunc(out, func(m state.Mapping) bool { return m.Device == o.Device })
		switch {
		case o.NoDevice && i >= 0:
			out = slices.Delete(out, i, i+1)
		case o.NoDevice:
		case i >= 0:
			out[i] = o.apply(out[i])
		default:
			// EC2's default for a volume that only the launch names.
			out = append(out, o.apply(state.Mapping{DeleteOnTermination: true}))
		}
	}
	slices.SortStableFunc(out, func(a, b state.Mapping) int {
		switch {
		case a.Device == im.RootDevice && b.Device != im.RootDevice:
			return -1
		case b.Device == im.RootDevice && a.Device != im.RootDevice:
			return 1
		}
		return 0
	})
	return out
}

// RunInstance makes an instance with its volumes and starts it. With a client
// token that was used before it returns what that call made.
func (c *Cloud) RunInstance(ctx context.Context, r RunRequest) (*state.Instance, error) {
	in, fresh, err := c.makeInstance(r)
	if err != nil || !fresh {
		return in, err
	}
	return in, c.begin(ctx, in.ID)
}

func (c *Cloud) makeInstance(r RunRequest) (in *state.Instance, fresh bool, err error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	id, err := replayed(st, "RunInstances", r.Token, r.Digest)
	if err != nil {
		return nil, false, err
	}
	if in := st.Instances[id]; in != nil {
		return in, false, nil
	}
	in, im, err := c.newInstance(st, r)
	if err != nil {
		return nil, false, err
	}
	var undo revert.Stack
	defer undo.Fail()
	dir := c.instanceDir(in.ID) // in is nil by the time that undo runs
	undo.Add(func() { _ = os.RemoveAll(dir) })
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, false, fmt.Errorf("make instance folder: %w", err)
	}
	var volumes []*state.Volume
	for _, m := range mappings(im, r.Overrides) {
		if snap := st.Snapshots[m.SnapshotID]; snap != nil && m.SizeGiB != 0 && m.SizeGiB < snap.SizeGiB {
			return nil, false, fault.New("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", m.SizeGiB, snap.ID, snap.SizeGiB)
		}
		v, err := c.makeVolume(st, m, in.Zone, &undo)
		if err != nil {
			return nil, false, err
		}
		v.Attachment = &state.Attachment{InstanceID: in.ID, Device: m.Device, At: in.Launched, DeleteOnTermination: m.DeleteOnTermination}
		volumes = append(volumes, v)
	}
	if im.Kind == state.Guest && (len(volumes) == 0 || volumes[0].Attachment.Device != in.RootDevice) {
		return nil, false, fault.New("InvalidBlockDeviceMapping", "The root device '%s' is missing", in.RootDevice)
	}
	err = c.Store.Update(func(st *state.State) error {
		st.Instances[in.ID] = in
		for _, v := range volumes {
			v.Attachment.Order = st.NextOrder()
			st.Volumes[v.ID] = v
			if err := setTags(st, v.ID, r.VolumeTags); err != nil {
				return err
			}
		}
		remember(st, "RunInstances", r.Token, r.Digest, in.ID)
		return errors.Join(setTags(st, in.ID, r.InstanceTags), c.Quotas.vcpus(st), c.Quotas.volumes(st))
	})
	if err != nil {
		return nil, false, err
	}
	undo.Success()
	return in, true, nil
}

// newInstance checks a request and returns its record.
func (c *Cloud) newInstance(st *state.State, r RunRequest) (*state.Instance, *state.Image, error) {
	im := st.Images[r.ImageID]
	if im == nil {
		return nil, nil, fault.NotFound("InvalidAMIID", r.ImageID)
	}
	zone, err := c.placement(r)
	if err != nil {
		return nil, nil, err
	}
	groups := r.Groups
	if len(groups) == 0 {
		groups = []string{c.defaultGroup()}
	}
	for _, g := range groups {
		if st.Groups[g] == nil {
			return nil, nil, fault.NotFound("InvalidGroup", g)
		}
	}
	if r.KeyName != "" && st.KeyNamed(r.KeyName) == nil {
		return nil, nil, fault.New("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", r.KeyName)
	}
	n := freeHost(st)
	in := &state.Instance{
		ID: state.NewID("i"), ReservationID: state.NewID("r"), ClientToken: r.Token, ImageID: im.ID, Kind: im.Kind, Program: im.Program,
		Type: r.Type, Phase: state.Pending, Launched: time.Now(), Zone: zone, SubnetID: c.Subnet(zone), Groups: groups,
		Address: fmt.Sprintf("127.77.%d.%d", n[0], n[1]), MetadataAddress: fmt.Sprintf("127.78.%d.%d:16925", n[0], n[1]),
		MAC: fmt.Sprintf("02:77:%02x:%02x:%02x:%02x", n[0], n[1], n[2], n[3]), UserData: r.UserData, KeyName: r.KeyName,
		Architecture: im.Architecture, BootMode: im.BootMode, ENA: im.ENA, RootDevice: im.RootDevice, OnShutdown: r.OnShutdown,
		NoTerminate: r.NoTerminate, Metadata: r.Metadata,
	}
	return in, im, checkMachine(in)
}

func (c *Cloud) placement(r RunRequest) (string, error) {
	zone := r.Zone
	if r.SubnetID != "" {
		z := c.ZoneOf(r.SubnetID)
		if z == "" {
			return "", fault.NotFound("InvalidSubnetID", r.SubnetID)
		}
		if zone != "" && zone != z {
			return "", fault.New("InvalidParameterValue", "The subnet %s is not in the zone %s", r.SubnetID, zone)
		}
		zone = z
	}
	if zone == "" {
		zone = c.Zones()[0]
	}
	if !slices.Contains(c.Zones(), zone) {
		return "", fault.New("InvalidZone.NotFound", "The zone '%s' does not exist.", zone)
	}
	return zone, nil
}

// freeHost picks the numbers that an instance's loopback addresses and hardware
// address are made of. They are random, so that several local clouds on one
// machine do not meet.
func freeHost(st *state.State) [4]byte {
	for {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if b[0] == 0 || b[1] == 0 || b[1] == 255 {
			continue
		}
		address := fmt.Sprintf("127.77.%d.%d", b[0], b[1])
		taken := false
		for _, in := range st.Instances {
			taken = taken || (in.Address == address && in.Phase != state.Terminated)
		}
		if !taken {
			return b
		}
	}
}
