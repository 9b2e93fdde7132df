package cloud

import (
	"context"
	"time"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/state"
)

// What is made is complete at once. With a StateDelay it is shown as unfinished
// for a while, and refused where EC2 would refuse it.

func (c *Cloud) settling(since time.Time) bool { return time.Since(since) < c.StateDelay }

// VolumeStatus is EC2's word for how a volume is.
func (c *Cloud) VolumeStatus(v *state.Volume) string {
	switch {
	case v.Attachment != nil:
		return "in-use"
	case c.settling(v.Created):
		return "creating"
	}
	return "available"
}

// AttachmentStatus is EC2's word for how the attachment of a volume is.
func (c *Cloud) AttachmentStatus(a *state.Attachment) string {
	if c.settling(a.At) {
		return "attaching"
	}
	return "attached"
}

// SnapshotStatus is EC2's word for how a snapshot is.
func (c *Cloud) SnapshotStatus(s *state.Snapshot) string {
	if s.Open || c.settling(s.Created) {
		return "pending"
	}
	return "completed"
}

// ModificationStatus is EC2's word for how the modification of a volume is.
func (c *Cloud) ModificationStatus(m *state.Modification) string {
	if c.settling(m.At) {
		return "optimizing"
	}
	return "completed"
}

// complete refuses what needs a finished snapshot.
func (c *Cloud) complete(s *state.Snapshot) error {
	if status := c.SnapshotStatus(s); status != "completed" {
		return fault.New("IncorrectState", "Snapshot %s is in invalid state - %s", s.ID, status)
	}
	return nil
}

// linger holds an instance in a phase on its way, as EC2 does.
func (c *Cloud) linger(ctx context.Context) {
	t := time.NewTimer(c.StateDelay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
