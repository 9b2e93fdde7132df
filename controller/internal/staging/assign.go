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
	var found string
	for _, rs := range all {
		if slices.Contains(rs.Servers, w.rec.Name) && usable(rs) && (found == "" || rs.Name == w.rec.Replica) {
			found = rs.Name
		}
	}
	if found != "" {
		return found, nil
	}
	return w.place(ctx, all, "")
}

// usable says whether a replication server may carry anything, now and later.
func usable(rs protocol.ReplicaServer) bool { return !rs.Retired && rs.Lost.IsZero() }

// place puts the server on the list of one that has room, but for the named one, or of a new one. The caller holds assign.
func (w *work) place(ctx context.Context, all []protocol.ReplicaServer, except string) (string, error) {
	for _, rs := range all {
		if rs.Name == except || w.unfit(rs) != "" {
			continue
		}
		err := w.list(ctx, rs.Name)
		if errors.Is(err, errRetired) {
			continue
		}
		return rs.Name, err
	}
	return w.create(ctx, false)
}

// list puts the server on a replication server's list.
func (w *work) list(ctx context.Context, name string) error {
	_, err := w.store.Staging.Update(ctx, name, func(rs *protocol.ReplicaServer) error {
		if !usable(*rs) {
			return errRetired
		}
		rs.Servers = append(rs.Servers, w.rec.Name)
		return nil
	})
	return err
}

// unlist takes a server off a replication server's list, if that one still exists.
func (s *Staging) unlist(ctx context.Context, name, server string) error {
	_, err := s.store.Staging.Update(ctx, name, func(rs *protocol.ReplicaServer) error {
		rs.Servers = slices.DeleteFunc(rs.Servers, func(n string) bool { return n == server })
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (w *work) create(ctx context.Context, dedicated bool) (string, error) {
	name := "rs-" + random(4)
	rs := protocol.ReplicaServer{Name: name, Replication: w.replication.Name, Servers: []string{w.rec.Name}, Dedicated: dedicated}
	return name, w.store.Staging.Create(ctx, name, rs)
}

// unfit says why a replication server may not carry this server too, or "". Volumes that exist are bound to their zone.
func (w *work) unfit(rs protocol.ReplicaServer) string {
	capacity := w.replication.VolumesPerServer
	if capacity <= 0 {
		capacity = DefaultCapacity
	}
	there := w.volumesOn(rs)
	switch {
	case !rs.Lost.IsZero():
		return "it was given up: " + rs.Reason
	case rs.Retired:
		return "it is being removed"
	case rs.Replication != w.replication.Name:
		return "it belongs to replication block " + rs.Replication
	case w.rec.Zone != "" && rs.Zone != w.rec.Zone:
		return fmt.Sprintf("it is in zone %q, the volumes are in %q", rs.Zone, w.rec.Zone)
	case (w.replication.Dedicated || rs.Dedicated) && len(rs.Servers) > 0:
		return "it is dedicated to " + rs.Servers[0]
	case there+len(w.rec.Volumes) > capacity:
		return fmt.Sprintf("it carries %d volumes, %d more would be more than %d", there, len(w.rec.Volumes), capacity)
	}
	return ""
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
	return s.store.Staging.Delete(ctx, name, func(rs protocol.ReplicaServer) error {
		if !rs.Retired {
			return fmt.Errorf("replication server %s: %w", name, errRetired)
		}
		return nil
	})
}
