// Package point takes ordered points to complete snapshots. It owns a point's stages, from
// the order to the agent, over the replica that stands still, to snapshots of exactly that
// server's volumes. A point is offered only when all of its snapshots are complete; one that
// went wrong is failed and never repaired, though another attempt may be made. It follows the schedule
// of points; what jobs and operators want is decided elsewhere.
package point

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/observe"
	"rehost/controller/internal/store"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Cloud is what points need of the cloud.
type Cloud interface {
	SnapshotVolumes(ctx context.Context, instance string, volumes []string, tags cloud.Tags) ([]cloud.Snapshot, error)
	Snapshots(ctx context.Context, tags cloud.Tags) ([]cloud.Snapshot, error)
	DeleteSnapshot(ctx context.Context, id string) error
	SnapshotHashes(ctx context.Context, snapshot string, offset, length, granule int64) ([]byte, error)
}

// keepOver is for how long the records of points that are over are kept for people. Those of jobs stay: jobs name them.
const keepOver = 24 * time.Hour

// Config is how patient points are.
type Config struct {
	HeldWithin  time.Duration // from the order to the replica standing still
	TakenWithin time.Duration // from there to the creation of the snapshots: replication stands still meanwhile
	ReadWithin  time.Duration // for a range of a snapshot that an agent asks for
}

// Points takes points through their stages. It is safe for concurrent use with different servers.
type Points struct {
	cfg     Config
	store   *store.Store
	reports *observe.Reports
	cloud   Cloud
	logger  hclog.Logger
}

// New makes a Points.
func New(cfg Config, st *store.Store, reports *observe.Reports, c Cloud, logger hclog.Logger) *Points {
	return &Points{cfg: cfg, store: st, reports: reports, cloud: c, logger: logger}
}

// Order records that a job wants a point, which says its id, its server, the job, and who takes it together with the server. Ordering the
// same again changes nothing.
func (p *Points) Order(ctx context.Context, pt protocol.Point) error {
	pt.State, pt.Ordered, pt.Origin = protocol.PointOrdered, time.Now(), protocol.OriginJob
	if len(pt.Members) < 2 {
		pt.Group, pt.Members = "", nil
	}
	return p.create(ctx, pt)
}

// Get returns a point's record.
func (p *Points) Get(server, id string) (protocol.Point, error) {
	return p.store.Points.Get(store.PointKey(server, id))
}

// Active says that a point is still on its way.
func Active(p protocol.Point) bool {
	return p.State == protocol.PointOrdered || p.State == protocol.PointHeld || p.State == protocol.PointSnapshotting
}

// Awaited says that the replica must stand still at the point when it meets it.
func Awaited(p protocol.Point) bool {
	return p.State == protocol.PointOrdered || p.State == protocol.PointHeld
}

// Reconcile takes the points of one server as far as they go now.
func (p *Points) Reconcile(ctx context.Context, server string) error {
	rec, err := p.store.Servers.Get(server)
	if err != nil {
		return err
	}
	all, err := p.store.Points.List(server + ".")
	if err != nil {
		return err
	}
	if err := p.plan(ctx, rec, all); err != nil {
		return err
	}
	ordered := false
	for _, pt := range all {
		if !Active(pt) {
			err = p.clear(ctx, pt)
		} else if pt.State != protocol.PointOrdered || !ordered {
			ordered = ordered || pt.State == protocol.PointOrdered
			err = p.advance(ctx, rec, pt)
		}
		if err != nil {
			return err
		}
	}
	return p.order(ctx, rec)
}

// advance takes one point that is on its way as far as it goes now.
func (p *Points) advance(ctx context.Context, rec protocol.Server, pt protocol.Point) error {
	members, err := p.group(ctx, pt)
	if err != nil {
		return err
	}
	ready := pt.State == protocol.PointSnapshotting && len(pt.Snapshots) > 0
	if ready && offerable(pt, members) {
		p.logger.Info("point complete", "server", pt.Server, "point", pt.ID, "snapshots", len(pt.Snapshots))
		return p.update(ctx, pt, func(v *protocol.Point) { v.State = protocol.PointComplete })
	}
	if problem, passing := lost(members); problem != nil {
		return p.end(ctx, pt, problem, passing)
	}
	switch pt.State {
	case protocol.PointOrdered:
		return p.ordered(ctx, rec, pt)
	case protocol.PointHeld:
		return p.held(ctx, rec, pt, members)
	case protocol.PointSnapshotting:
		if !ready {
			return p.snapshotting(ctx, rec, pt, members)
		}
	case protocol.PointComplete, protocol.PointLost, protocol.PointRemoved:
	}
	return nil
}

// order makes the server's record ask the agent for the oldest point that is still ordered, or for none.
func (p *Points) order(ctx context.Context, rec protocol.Server) error {
	all, err := p.store.Points.List(rec.Name + ".")
	if err != nil {
		return err
	}
	var oldest protocol.Point
	for _, pt := range all {
		if pt.State == protocol.PointOrdered && (oldest.ID == "" || pt.Ordered.Before(oldest.Ordered)) {
			oldest = pt
		}
	}
	_, replication, _, _ := fleet.Settings(p.store.Applied(), rec.Name)
	_, err = p.store.Servers.Update(ctx, rec.Name, func(r *protocol.Server) error {
		r.PointOrder = nil
		if oldest.ID != "" && r.Wanted == protocol.WantReplicate {
			r.PointOrder = &protocol.PointOrder{ID: oldest.ID, Budget: replication.FreezeBudget, Group: oldest.Group, Members: len(oldest.Members)}
		}
		return nil
	})
	return err
}

func (p *Points) update(ctx context.Context, pt protocol.Point, change func(*protocol.Point)) error {
	_, err := p.store.Points.Update(ctx, store.PointKey(pt.Server, pt.ID), func(v *protocol.Point) error {
		if v.State == pt.State { // otherwise someone was faster
			change(v)
		}
		return nil
	})
	return err
}

// ordered waits for the agent to fail, or for the replica to stand still at the point.
func (p *Points) ordered(ctx context.Context, rec protocol.Server, pt protocol.Point) error {
	if status, ok := p.reports.Replica(rec.Replica, rec.Name, rec.Generation); ok && status.Held != nil && status.Held.ID == pt.ID {
		mark := *status.Held
		p.logger.Info("point held", "server", pt.Server, "point", pt.ID, "grade", mark.Grade, "frozen", mark.Frozen.String())
		return p.update(ctx, pt, func(v *protocol.Point) {
			v.State, v.Grade, v.Taken, v.Frozen, v.Fenced = protocol.PointHeld, mark.Grade, mark.Taken, mark.Frozen, mark.Fenced
			v.Held = time.Now()
		})
	}
	report, _, _ := p.reports.Agent(rec.Name)
	for _, r := range report.Points {
		if r.ID == pt.ID && r.State == protocol.PointFailed {
			problem := r.Problem
			if problem == nil {
				problem = &protocol.Problem{Code: protocol.ProblemPoint, Message: "the agent could not take point " + pt.ID}
			}
			// The source may be quieter in a moment. What else it complains of does not pass so soon.
			return p.end(ctx, pt, problem, problem.Code == protocol.ProblemFreeze || problem.Code == protocol.ProblemPoint)
		}
	}
	if time.Since(pt.Ordered) > p.cfg.HeldWithin {
		return p.Fail(ctx, pt, &protocol.Problem{
			Code:    protocol.ProblemPoint,
			Message: fmt.Sprintf("point %s did not reach the replica within %s", pt.ID, p.cfg.HeldWithin),
			Hint:    "look at the lag of " + pt.Server + ": rehost status",
		})
	}
	return nil
}

func tagsOf(pt protocol.Point) cloud.Tags {
	return cloud.Tags{cloud.TagRole: cloud.RolePointSnapshot, cloud.TagServer: pt.Server, cloud.TagPoint: pt.ID, cloud.TagJob: pt.Job}
}

// held creates the snapshots. What they hold is fixed then, so the replica may go on while they are pending.
// None is created before the replicas of all servers of a group stand still.
func (p *Points) held(ctx context.Context, rec protocol.Server, pt protocol.Point, members []protocol.Point) error {
	since, all := allHeld(members)
	if !all {
		if time.Since(pt.Ordered) <= p.cfg.HeldWithin {
			return nil
		}
		return p.Fail(ctx, pt, &protocol.Problem{
			Code:    protocol.ProblemPoint,
			Message: fmt.Sprintf("point %s did not reach the replicas of all servers of %s within %s", pt.ID, pt.Group, p.cfg.HeldWithin),
			Hint:    "look at the lag of each of them: rehost status",
		})
	}
	rs, err := p.store.Staging.Get(rec.Replica)
	if (err == nil && !rs.Lost.IsZero()) || errors.Is(err, store.ErrNotFound) || (rec.Move != nil && !rec.Move.Releasing.IsZero()) {
		// Another one takes over, and stands still at the point too. Nobody should wait for it for long.
		if time.Since(since) > p.cfg.TakenWithin {
			return p.Fail(ctx, pt, &protocol.Problem{Code: protocol.ProblemPoint, Message: "the replication server of " + pt.Server + " was lost before the snapshots of point " + pt.ID + " were created"})
		}
		return nil
	}
	if err != nil {
		return err
	}
	var volumes []string
	for _, v := range rec.Volumes {
		volumes = append(volumes, v.Volume)
	}
	limited, cancel := context.WithTimeoutCause(ctx, p.cfg.TakenWithin, fmt.Errorf("the cloud did not answer within %s", p.cfg.TakenWithin))
	defer cancel()
	_, err = p.cloud.SnapshotVolumes(limited, rs.Instance, volumes, tagsOf(pt))
	if ctx.Err() != nil {
		return context.Cause(ctx) // the next controller finds them by their tags
	}
	if err != nil {
		if time.Since(since) > p.cfg.TakenWithin || cloud.Permanent(err) {
			code := protocol.ProblemCloud
			if cloud.Expired(err) {
				code = protocol.ProblemCredentials
			}
			return p.Fail(ctx, pt, &protocol.Problem{Code: code, Message: err.Error(), Hint: hint.Of(err)})
		}
		p.logger.Warn("create snapshots", "server", pt.Server, "point", pt.ID, "error", err)
		return nil
	}
	return p.update(ctx, pt, func(v *protocol.Point) { v.State = protocol.PointSnapshotting })
}

// snapshotting waits for the snapshots to complete. Then the point is offered, or waits for the other servers of its group.
func (p *Points) snapshotting(ctx context.Context, rec protocol.Server, pt protocol.Point, members []protocol.Point) error {
	list, err := p.cloud.Snapshots(ctx, tagsOf(pt))
	if err != nil {
		p.logger.Warn("look at snapshots", "server", pt.Server, "point", pt.ID, "error", err)
		return nil
	}
	byVolume := cloud.FirstOfEach(list)
	var ids []string
	for _, v := range rec.Volumes {
		s := byVolume[v.Volume]
		switch s.State {
		case "completed":
			ids = append(ids, s.ID)
		case "error":
			return p.Fail(ctx, pt, &protocol.Problem{Code: protocol.ProblemCloud, Message: fmt.Sprintf("snapshot %s of volume %s ended in an error", s.ID, v.Volume)})
		default:
			return nil
		}
	}
	if len(members) > 1 {
		return p.update(ctx, pt, func(v *protocol.Point) { v.Snapshots = ids })
	}
	p.logger.Info("point complete", "server", pt.Server, "point", pt.ID, "snapshots", len(ids))
	return p.update(ctx, pt, func(v *protocol.Point) { v.State, v.Snapshots = protocol.PointComplete, ids })
}

// Fail ends a point that is on its way: nobody will be offered it, and what was made of it is deleted.
func (p *Points) Fail(ctx context.Context, pt protocol.Point, problem *protocol.Problem) error {
	return p.end(ctx, pt, problem, false)
}

// end is Fail for a reason that may pass or not.
func (p *Points) end(ctx context.Context, pt protocol.Point, problem *protocol.Problem, passing bool) error {
	told := *problem // it may be shared with a report
	told.Server, told.At = pt.Server, time.Now()
	p.logger.Warn("point failed", "server", pt.Server, "point", pt.ID, "error", problem.Message)
	_, err := p.store.Points.Update(ctx, store.PointKey(pt.Server, pt.ID), func(v *protocol.Point) error {
		if Active(*v) {
			v.State, v.Problem, v.Over, v.Passing, v.Snapshots = protocol.PointLost, &told, told.At, passing, nil
		}
		return nil
	})
	if err != nil || pt.State == protocol.PointOrdered {
		return err
	}
	return p.deleteSnapshots(ctx, tagsOf(pt))
}

// clear looks once more for snapshots of a point that is over: they may have been created by a
// call that was under way then, or a crash may have come before their deletion.
func (p *Points) clear(ctx context.Context, pt protocol.Point) error {
	if pt.Cleared && pt.Origin != protocol.OriginJob && pt.Origin != "" && time.Since(pt.Over) > keepOver {
		return p.store.Points.Delete(ctx, store.PointKey(pt.Server, pt.ID), nil) // it is over, and stays so
	}
	if pt.Cleared || (pt.State != protocol.PointLost && pt.State != protocol.PointRemoved) || time.Since(pt.Over) < p.cfg.TakenWithin {
		return nil
	}
	if err := p.deleteSnapshots(ctx, tagsOf(pt)); err != nil {
		return err
	}
	return p.update(ctx, pt, func(v *protocol.Point) { v.Cleared = true })
}

// Remove deletes a point's snapshots. First the record says that it is not offered any more.
func (p *Points) Remove(ctx context.Context, server, id string) error {
	pt, err := p.Get(server, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := p.store.Points.Update(ctx, store.PointKey(server, id), func(v *protocol.Point) error {
		if v.State != protocol.PointLost {
			v.State = protocol.PointRemoved
		}
		if v.Over.IsZero() {
			v.Over = time.Now()
		}
		v.Snapshots = nil
		return nil
	}); err != nil {
		return err
	}
	return p.deleteSnapshots(ctx, tagsOf(pt))
}

// Lost removes the complete points of a server whose snapshots are not in the cloud any more, and says so. Records do not know it when they come
// from a backup.
func (p *Points) Lost(ctx context.Context, server string) error {
	all, err := p.store.Points.List(server + ".")
	if err != nil {
		return err
	}
	list, err := p.cloud.Snapshots(ctx, cloud.Tags{cloud.TagRole: cloud.RolePointSnapshot, cloud.TagServer: server})
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, s := range list {
		there[s.ID] = true
	}
	for _, pt := range all {
		if pt.State != protocol.PointComplete || !slices.ContainsFunc(pt.Snapshots, func(id string) bool { return !there[id] }) {
			continue
		}
		p.logger.Warn("point is not there any more", "server", server, "point", pt.ID)
		if err := p.update(ctx, pt, func(v *protocol.Point) {
			v.Problem = &protocol.Problem{Code: protocol.ProblemPoint, Server: server, At: time.Now(), Message: "the snapshots of point " + pt.ID + " are not in the cloud any more"}
		}); err != nil {
			return err
		}
		if err := p.Remove(ctx, server, pt.ID); err != nil {
			return err
		}
	}
	return nil
}

// RemoveAll deletes the snapshots of all points of a server.
func (p *Points) RemoveAll(ctx context.Context, server string) error {
	all, err := p.store.Points.List(server + ".")
	if err != nil {
		return err
	}
	for _, pt := range all {
		if err := p.Remove(ctx, server, pt.ID); err != nil {
			return err
		}
	}
	return p.deleteSnapshots(ctx, cloud.Tags{cloud.TagRole: cloud.RolePointSnapshot, cloud.TagServer: server})
}

func (p *Points) deleteSnapshots(ctx context.Context, tags cloud.Tags) error {
	list, err := p.cloud.Snapshots(ctx, tags)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := p.cloud.DeleteSnapshot(ctx, s.ID); err != nil {
			return err
		}
	}
	return nil
}
