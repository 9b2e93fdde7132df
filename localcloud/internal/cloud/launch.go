package cloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rehost/internal/revert"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// RunRequest asks for instances that are alike.
type RunRequest struct {
	ImageID, Type, Zone string
	// Min and Max are how many: as many as quotas allow, at least Min.
	Min, Max int
	// Interfaces of each instance, by their index.
	Interfaces []InterfaceRequest
	// Overrides change or add to the image's block devices.
	Overrides                []Override
	UserData                 []byte
	KeyName                  string
	OnShutdown               string
	NoTerminate              bool
	Profile, Tenancy         string
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

// RunInstances makes instances with their volumes and starts them. With a client
// token that was used before it returns what that call made.
func (c *Cloud) RunInstances(ctx context.Context, r RunRequest) ([]*state.Instance, error) {
	made, fresh, err := c.makeInstances(r)
	if err != nil || !fresh {
		return made, err
	}
	for _, in := range made {
		if err := c.begin(ctx, in.ID); err != nil {
			return nil, err
		}
	}
	return made, nil
}

func (c *Cloud) makeInstances(r RunRequest) (made []*state.Instance, fresh bool, err error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	reservation, err := replayed(st, "RunInstances", r.Token, r.Digest)
	if err != nil {
		return nil, false, err
	}
	if reservation != "" {
		return st.Reserved(reservation), false, nil
	}
	for n := r.Max; ; n-- {
		made, err = c.makeAll(st, r, n)
		var limit *fault.Error
		if n <= r.Min || !errors.As(err, &limit) || !strings.HasSuffix(limit.Code, "LimitExceeded") {
			return made, err == nil, err
		}
	}
}

// makeAll makes so many instances, or none.
func (c *Cloud) makeAll(st *state.State, r RunRequest, n int) (made []*state.Instance, err error) {
	im := st.Images[r.ImageID]
	if im == nil {
		return nil, fault.NotFound("InvalidAMIID", r.ImageID)
	}
	var undo revert.Stack
	defer undo.Fail()
	addresses := taken(st)
	var volumes []*state.Volume
	reservation := state.NewID("r")
	for i := range n {
		in, err := c.newInstance(st, r, im, addresses)
		if err != nil {
			return nil, err
		}
		in.ReservationID, in.LaunchIndex = reservation, i
		own, err := c.newVolumes(st, r, im, in, &undo)
		if err != nil {
			return nil, err
		}
		made, volumes = append(made, in), append(volumes, own...)
	}
	err = c.Store.Update(func(st *state.State) error {
		for _, in := range made {
			st.Instances[in.ID] = in
			if err := setTags(st, in.ID, r.InstanceTags); err != nil {
				return err
			}
		}
		for _, v := range volumes {
			v.Attachment.Order = st.NextOrder()
			st.Volumes[v.ID] = v
			if err := setTags(st, v.ID, r.VolumeTags); err != nil {
				return err
			}
		}
		remember(st, "RunInstances", r.Token, r.Digest, reservation)
		return errors.Join(c.Quotas.vcpus(st), c.Quotas.volumes(st))
	})
	if err != nil {
		return nil, err
	}
	undo.Success()
	return made, nil
}

// newVolumes makes an instance's folder and the files of its volumes, and returns the volumes' records.
func (c *Cloud) newVolumes(st *state.State, r RunRequest, im *state.Image, in *state.Instance, undo *revert.Stack) ([]*state.Volume, error) {
	dir := c.instanceDir(in.ID)
	undo.Add(func() { _ = os.RemoveAll(dir) })
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make instance folder: %w", err)
	}
	var volumes []*state.Volume
	for _, m := range mappings(im, r.Overrides) {
		if snap := st.Snapshots[m.SnapshotID]; snap != nil && m.SizeGiB != 0 && m.SizeGiB < snap.SizeGiB {
			return nil, fault.New("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", m.SizeGiB, snap.ID, snap.SizeGiB)
		}
		v, err := c.makeVolume(st, m, in.Zone, undo)
		if err != nil {
			return nil, err
		}
		v.Attachment = &state.Attachment{InstanceID: in.ID, Device: m.Device, At: in.Launched, DeleteOnTermination: m.DeleteOnTermination}
		volumes = append(volumes, v)
	}
	if im.Kind == state.Guest && (len(volumes) == 0 || volumes[0].Attachment.Device != in.RootDevice) {
		return nil, fault.New("InvalidBlockDeviceMapping", "The root device '%s' is missing", in.RootDevice)
	}
	return volumes, nil
}

// newInstance checks a request and returns the record of one instance.
func (c *Cloud) newInstance(st *state.State, r RunRequest, im *state.Image, addresses map[string]bool) (*state.Instance, error) {
	zone, err := c.placement(r)
	if err != nil {
		return nil, err
	}
	if r.KeyName != "" && st.KeyNamed(r.KeyName) == nil {
		return nil, fault.New("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", r.KeyName)
	}
	interfaces, err := c.interfaces(st, r, zone, addresses)
	if err != nil {
		return nil, err
	}
	in := &state.Instance{
		ID: state.NewID("i"), ClientToken: r.Token, ImageID: im.ID, Kind: im.Kind, Program: im.Program,
		Type: r.Type, Phase: state.Pending, Launched: time.Now(), Zone: zone, Interfaces: interfaces,
		// The metadata service has the numbers of the first address, which nobody else has.
		MetadataAddress: "127.78." + strings.TrimPrefix(interfaces[0].Address, "127.77.") + ":16925", UserData: r.UserData, KeyName: r.KeyName,
		Architecture: im.Architecture, BootMode: im.BootMode, ENA: im.ENA, RootDevice: im.RootDevice, OnShutdown: r.OnShutdown,
		NoTerminate: r.NoTerminate, Profile: r.Profile, Tenancy: r.Tenancy, Metadata: r.Metadata,
	}
	return in, checkMachine(in)
}

func (c *Cloud) placement(r RunRequest) (string, error) {
	zone, subnet := r.Zone, r.Interfaces[0].SubnetID
	if subnet != "" {
		z := c.ZoneOf(subnet)
		if z == "" {
			return "", fault.NotFound("InvalidSubnetID", subnet)
		}
		if zone != "" && zone != z {
			return "", fault.New("InvalidParameterValue", "The subnet %s is not in the zone %s", subnet, zone)
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
