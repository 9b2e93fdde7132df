package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/store"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// fenceWithin bounds one try to fence a replication server; then it is tried again.
const fenceWithin = 5 * time.Minute

// Guard looks at one replication server. One that is dead is given up, and fenced: its instance is terminated and no
// volume is attached to it any more. Only then are its servers taken from it, by [Staging.Reconcile]: two
// replication servers that write one volume would destroy a replica that nobody could tell from a good one.
func (s *Staging) Guard(ctx context.Context, name string) error {
	rs, err := s.store.Staging.Get(name)
	if errors.Is(err, store.ErrNotFound) || rs.Retired {
		return nil
	}
	if err != nil {
		return err
	}
	if rs.Lost.IsZero() {
		reason, err := s.judge(ctx, rs)
		if err != nil || reason == "" {
			return err
		}
		s.logger.Warn("replication server is given up", "replicaserver", name, "instance", rs.Instance, "reason", reason)
		rs, err = s.store.Staging.Update(ctx, name, func(rs *protocol.ReplicaServer) error {
			rs.Lost, rs.Reason = time.Now(), reason
			return nil
		})
		if err != nil {
			return err
		}
	}
	if !rs.Fenced.IsZero() {
		return nil
	}
	if err := s.fence(ctx, rs); err != nil {
		return fmt.Errorf("fence replication server %s: %w", name, err)
	}
	s.logger.Info("replication server fenced", "replicaserver", name, "instance", rs.Instance)
	_, err = s.store.Staging.Update(ctx, name, func(rs *protocol.ReplicaServer) error { rs.Fenced = time.Now(); return nil })
	return err
}

// judge returns why a replication server is dead, or "". The cloud is asked only about one that is missing.
func (s *Staging) judge(ctx context.Context, rs protocol.ReplicaServer) (string, error) {
	_, at, heard := s.reports.ReplicaServer(rs.Name)
	if heard && rs.LastSeen.IsZero() {
		_, err := s.store.Staging.Update(ctx, rs.Name, func(rs *protocol.ReplicaServer) error { rs.LastSeen = at; return nil })
		return "", err
	}
	e := Evidence{Silent: time.Since(at), Heard: !rs.LastSeen.IsZero(), Bus: s.reports.HeardOfOthers(rs.Name, s.cfg.ReplicaLost)}
	if e.Silent <= s.cfg.ReplicaLost || rs.Instance == "" || !s.mayAsk(rs.Name, s.cfg.Retry) {
		return "", nil
	}
	inst, err := s.cloud.Instance(ctx, rs.Instance)
	switch {
	case cloud.NotFound(err): // a new one is shown late, and this one is not new
		e.Gone = e.Heard
	case err != nil:
		s.logger.Warn("look at the instance of a silent replication server", "replicaserver", rs.Name, "error", err)
	default:
		e.Instance, e.Gone = inst.State, !inst.Alive()
		if e.Impaired, err = s.cloud.Impairment(ctx, rs.Instance); err != nil {
			s.logger.Debug("look at the health of a silent replication server", "replicaserver", rs.Name, "error", err)
		}
	}
	return Verdict(e, s.cfg.ReplicaLost, s.replaceAfter(rs)), nil
}

// mayAsk spaces out the questions about one thing.
func (s *Staging) mayAsk(name string, every time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.asked[name]) < every {
		return false
	}
	s.asked[name] = time.Now()
	return true
}

func (s *Staging) replaceAfter(rs protocol.ReplicaServer) time.Duration {
	for _, r := range s.store.Applied().Replications {
		if r.Name == rs.Replication {
			return r.ReplaceAfter
		}
	}
	return 0
}

// fence ends a replication server for certain: its instances, found by tag since the record may not know of all, are
// terminated, and the cloud says of each volume that it is not attached to them.
func (s *Staging) fence(ctx context.Context, rs protocol.ReplicaServer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, fenceWithin, fmt.Errorf("not within %s", fenceWithin))
	defer cancel()
	ids := []string{rs.Instance}
	instances, err := s.cloud.Instances(ctx, cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer, cloud.TagReplicaServer: rs.Name})
	if err != nil {
		return err
	}
	for _, inst := range instances {
		ids = append(ids, inst.ID)
		if inst.State == cloud.InstanceTerminated {
			continue
		}
		if err := s.cloud.TerminateInstance(ctx, inst.ID, nil); err != nil {
			return err
		}
	}
	for _, server := range rs.Servers {
		volumes, err := s.cloud.Volumes(ctx, cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume, cloud.TagServer: server})
		if err != nil {
			return err
		}
		for _, v := range volumes {
			if v.Instance == "" || !slices.Contains(ids, v.Instance) {
				continue
			}
			if err := s.cloud.DetachVolume(ctx, v.ID, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// leave takes a server from a replication server that was given up, as soon as that one is fenced. It returns true
// while that is awaited. Volumes, stream and generation stay as they are: another replication server goes on from the checkpoint.
func (s *Staging) leave(ctx context.Context, rec protocol.Server) (waiting bool, err error) {
	lost, err := s.store.Staging.Find(func(rs *protocol.ReplicaServer) bool {
		return !rs.Lost.IsZero() && slices.Contains(rs.Servers, rec.Name)
	})
	if err != nil {
		return false, err
	}
	for _, rs := range lost {
		// One that never came up is tried again, but not in a hurry: the next one may fare like it.
		// Of one that has only room reserved for the server nothing is awaited: no volume was attached to it.
		if rs.Name == rec.Replica && (rs.Fenced.IsZero() || (rs.LastSeen.IsZero() && time.Since(rs.Lost) < s.cfg.ReplicaBoot)) {
			return true, nil
		}
		// First the server's record: a crash between the two writes leaves it on the list, and this is done again.
		if _, err := s.store.Servers.Update(ctx, rec.Name, func(r *protocol.Server) error {
			if r.Replica != rs.Name {
				return nil
			}
			r.Replica, r.Replacing, r.Problem, r.Move = "", fmt.Sprintf("replication server %s was given up: %s", rs.Name, rs.Reason), nil, nil
			startAnew(r, stepsOfReplica)
			return nil
		}); err != nil {
			return false, err
		}
		if err := s.unlist(ctx, rs.Name, rec.Name); err != nil {
			return false, err
		}
		s.logger.Info("server leaves its replication server", "server", rec.Name, "replicaserver", rs.Name, "reason", rs.Reason)
	}
	return false, nil
}

// startAnew makes initiation steps start once more.
func startAnew(r *protocol.Server, steps []protocol.InitiationStep) {
	for i, step := range protocol.InitiationSteps {
		if i < len(r.Initiation) && slices.Contains(steps, step) {
			r.Initiation[i] = protocol.Initiation{Step: step, Status: protocol.StepNotStarted, At: time.Now()}
		}
	}
}

// stepsOfReplica are the initiation steps that another replication server makes necessary again.
var stepsOfReplica = []protocol.InitiationStep{
	protocol.StepLaunchReplicaServer, protocol.StepBootReplicaServer, protocol.StepAuthenticate, protocol.StepDownloadSoftware,
	protocol.StepCreateStagingDisks, protocol.StepAttachStagingDisks, protocol.StepPairReplicaServer,
}

// StepRestore is where problems of a restored record happen.
const StepRestore = "RESTORE"

// Doubt makes a restored record look at everything anew that another replication server would have to: instance, volumes and stream may
// have changed since the backup of that time. A move that had not taken the volumes yet is given up. It returns the replication server that had room reserved for it.
func Doubt(r *protocol.Server, at time.Time) (reserved string) {
	if r.Restored = at; len(r.Initiation) > 0 {
		startAnew(r, stepsOfReplica)
	}
	if m := r.Move; m != nil && m.Released.IsZero() {
		r.Move, reserved = nil, m.Target
	}
	return reserved
}
