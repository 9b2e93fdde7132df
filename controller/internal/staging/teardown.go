package staging

import (
	"context"
	"slices"
	"time"

	"rehost/controller/internal/await"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// Disconnect orders the agent to end, and waits until it has, or has been silent for long.
func (s *Staging) Disconnect(ctx context.Context, server string) error {
	if _, err := s.store.Servers.Update(ctx, server, func(r *protocol.Server) error {
		r.Wanted, r.PointOrder = protocol.WantDisconnect, nil
		return nil
	}); err != nil {
		return err
	}
	ordered := time.Now()
	return await.Until(ctx, s.cfg.Poll, func() (bool, error) {
		report, at, ok := s.reports.Agent(server)
		if ok && at.After(ordered) && report.Replication == protocol.ReplicationDisconnected {
			return true, nil
		}
		return time.Since(later(at, ordered)) > s.cfg.AgentGone, nil
	})
}

// Halt waits until an agent that is ordered to stop has ended its replication, or has been silent for long: it is told when it comes back.
func (s *Staging) Halt(ctx context.Context, server string) error {
	from := time.Now()
	return await.Until(ctx, s.cfg.Poll, func() (bool, error) {
		report, at, ok := s.reports.Agent(server)
		if ok && at.After(from) && report.Replication == protocol.ReplicationStopped {
			return true, nil
		}
		return time.Since(later(at, from)) > s.cfg.AgentGone, nil
	})
}

// Retry makes the next look at a server try again at once what has failed.
func (s *Staging) Retry(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pause, server)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Unassign takes the replica from its replication server, waits until that has let go of
// the volumes, and deletes the stream.
func (s *Staging) Unassign(ctx context.Context, server string) error {
	rec, err := s.store.Servers.Get(server)
	if err != nil {
		return err
	}
	carrier := rec.Replica
	all, err := s.store.Staging.List("")
	if err != nil {
		return err
	}
	if _, err := s.store.Servers.Update(ctx, server, func(r *protocol.Server) error { r.Replica = ""; return nil }); err != nil {
		return err
	}
	for _, rs := range all {
		if rs.Name != carrier && !slices.Contains(rs.Servers, server) {
			continue
		}
		if !rs.Fenced.IsZero() {
			continue // it cannot hold anything any more
		}
		if err := s.letGo(ctx, rs.Name, server, rec.Generation); err != nil {
			return err
		}
	}
	if rec.Generation == "" {
		return nil
	}
	return s.bus.DeleteStream(ctx, server, rec.Generation)
}

func (s *Staging) letGo(ctx context.Context, replicaServer, server, generation string) error {
	from := time.Now()
	return await.Until(ctx, s.cfg.Poll, func() (bool, error) {
		_, at, ok := s.reports.ReplicaServer(replicaServer)
		_, holds := s.reports.Replica(replicaServer, server, generation)
		if ok && at.After(from) && !holds {
			return true, nil
		}
		return time.Since(later(at, from)) > s.cfg.AgentGone, nil
	})
}

// Remove deletes a server's staging volumes, and then takes it off its replication server's list.
func (s *Staging) Remove(ctx context.Context, server string) error {
	volumes, err := s.cloud.Volumes(ctx, cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume, cloud.TagServer: server})
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := s.cloud.DeleteVolume(ctx, v.ID); err != nil {
			return err
		}
	}
	all, err := s.store.Staging.List("")
	if err != nil {
		return err
	}
	for _, rs := range all {
		if !slices.Contains(rs.Servers, server) {
			continue
		}
		if err := s.unlist(ctx, rs.Name, server); err != nil {
			return err
		}
	}
	_, err = s.store.Servers.Update(ctx, server, func(r *protocol.Server) error {
		r.Volumes, r.Stream, r.Zone, r.Replacing, r.Move = nil, "", "", "", nil
		return nil
	})
	return err
}

// Forget makes a torn-down server's record as if it had never replicated.
func (s *Staging) Forget(ctx context.Context, server string) error {
	_, err := s.store.Servers.Update(ctx, server, func(r *protocol.Server) error {
		r.Generation, r.Initiation, r.Problem = "", nil, nil
		r.FirstByte, r.Continuous, r.Tested = time.Time{}, time.Time{}, time.Time{}
		return nil
	})
	return err
}
