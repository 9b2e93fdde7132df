package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"rehost/controller/internal/store"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// choose returns the replication server that carries this server. It is in that one's record
// before it is in the server's, so that a crash between the two is repaired by looking.
func (w *work) choose(ctx context.Context) (string, error) {
	w.assign.Lock()
	defer w.assign.Unlock()
	all, err := w.store.Staging.List("")
	if err != nil {
		return "", err
	}
	capacity := w.replication.VolumesPerServer
	if capacity <= 0 {
		capacity = defaultCapacity
	}
	for _, rs := range all {
		if slices.Contains(rs.Servers, w.rec.Name) && !rs.Retired && rs.Lost.IsZero() {
			return rs.Name, nil
		}
	}
	for _, rs := range all {
		if !w.fits(rs, capacity) {
			continue
		}
		_, err := w.store.Staging.Update(ctx, rs.Name, func(rs *protocol.ReplicaServer) error {
			if rs.Retired || !rs.Lost.IsZero() {
				return errRetired
			}
			rs.Servers = append(rs.Servers, w.rec.Name)
			return nil
		})
		if errors.Is(err, errRetired) {
			continue
		}
		return rs.Name, err
	}
	name := "rs-" + random(4)
	rs := protocol.ReplicaServer{Name: name, Replication: w.replication.Name, Servers: []string{w.rec.Name}}
	return name, w.store.Staging.Create(ctx, name, rs)
}

// fits says whether a replication server may carry this server too. Volumes that exist are bound to their zone.
func (w *work) fits(rs protocol.ReplicaServer, capacity int) bool {
	if rs.Retired || !rs.Lost.IsZero() || rs.Replication != w.replication.Name || (w.rec.Zone != "" && rs.Zone != w.rec.Zone) {
		return false
	}
	if w.replication.Dedicated && len(rs.Servers) > 0 {
		return false
	}
	return w.volumesOn(rs)+len(w.rec.Volumes) <= capacity
}

func (w *work) volumesOn(rs protocol.ReplicaServer) int {
	n := 0
	for _, name := range rs.Servers {
		if r, err := w.store.Servers.Get(name); err == nil {
			n += len(r.Volumes)
		}
	}
	return n
}

// Retire terminates the replication servers that carry nothing, and forgets them.
func (s *Staging) Retire(ctx context.Context) error {
	all, err := s.store.Staging.List("")
	if err != nil {
		return err
	}
	for _, rs := range all {
		if len(rs.Servers) > 0 {
			continue
		}
		if err := s.retire(ctx, rs.Name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Staging) retire(ctx context.Context, name string) error {
	s.assign.Lock()
	_, err := s.store.Staging.Update(ctx, name, func(rs *protocol.ReplicaServer) error {
		rs.Retired = len(rs.Servers) == 0
		if !rs.Retired {
			return errRetired
		}
		return nil
	})
	s.assign.Unlock()
	if errors.Is(err, errRetired) || errors.Is(err, store.ErrNotFound) {
		return nil // it got a server meanwhile, or is gone
	}
	if err != nil {
		return err
	}
	// By tag: the record may not know of an instance that a crash left behind.
	instances, err := s.cloud.Instances(ctx, cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer, cloud.TagReplicaServer: name})
	if err != nil {
		return err
	}
	for _, inst := range instances {
		if inst.State == cloud.InstanceTerminated {
			continue
		}
		if err := s.cloud.TerminateInstance(ctx, inst.ID, nil); err != nil {
			return fmt.Errorf("retire replication server %s: %w", name, err)
		}
	}
	s.logger.Info("replication server retired", "replicaserver", name)
	return s.store.Staging.Delete(ctx, name)
}
