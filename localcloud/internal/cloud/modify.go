package cloud

import (
	"fmt"
	"time"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// VolumeChange asks for another size or performance. Nil fields stay.
type VolumeChange struct {
	SizeGiB          *int64
	Type             *string
	IOPS, Throughput *int64
}

// ModifyVolume changes a volume, attached or not. It can only grow. A running
// guest sees the new size once it was stopped and started: QEMU's NVMe disks
// keep the size that they began with.
func (c *Cloud) ModifyVolume(id string, r VolumeChange) (*state.Volume, error) {
	c.ops.Lock()
	defer c.ops.Unlock()
	v := c.Store.View().Volumes[id]
	if v == nil {
		return nil, fault.NotFound("InvalidVolume", id)
	}
	from := state.Performance{SizeGiB: v.SizeGiB, Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput}
	m := state.Mapping{SizeGiB: v.SizeGiB, Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput}
	if r.Type != nil && *r.Type != v.Type {
		m.IOPS, m.Throughput = 0, 0 // of the other type, its own defaults
	}
	set(&m.SizeGiB, r.SizeGiB)
	set(&m.Type, r.Type)
	set(&m.IOPS, r.IOPS)
	set(&m.Throughput, r.Throughput)
	if err := checkType(&m); err != nil {
		return nil, err
	}
	switch {
	case m.SizeGiB < v.SizeGiB:
		return nil, fault.New("InvalidParameterValue", "New size cannot be smaller than existing size")
	case m.SizeGiB > largestVolume:
		return nil, fault.Invalid("size", fmt.Sprint(m.SizeGiB), fmt.Sprintf("It must be 1 to %d GiB.", largestVolume))
	}
	// The file may be larger than the record says, never smaller.
	if err := grow(c.VolumePath(id), m.SizeGiB<<30); err != nil {
		return nil, err
	}
	err := c.Store.Update(func(st *state.State) error {
		v = st.Volumes[id]
		to := state.Performance{SizeGiB: m.SizeGiB, Type: m.Type, IOPS: m.IOPS, Throughput: m.Throughput}
		v.SizeGiB, v.Type, v.IOPS, v.Throughput = to.SizeGiB, to.Type, to.IOPS, to.Throughput
		v.Modification = &state.Modification{At: time.Now(), From: from, To: to}
		return c.Quotas.volumes(st)
	})
	return v, err
}
