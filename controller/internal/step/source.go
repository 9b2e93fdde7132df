package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/await"
	"rehost/controller/internal/fleet"
	"rehost/controller/internal/point"
	"rehost/protocol"
)

// fenceTime is how long one run of a step waits for the agent's word about its fence.
func fenceTime(w *Work) time.Duration { return w.cfg.Fence }

// fence stops the source's writers, by the agent's hook or by the operator's word.
func fence(ctx context.Context, w *Work) error {
	settings, _, err := w.settings()
	if err != nil {
		return err
	}
	if settings.Fence == fleet.FenceConfirmed {
		return &skip{"the operator says that the writers are stopped"}
	}
	if err := w.orderFence(ctx, true); err != nil {
		return &protocol.Problem{
			Code: protocol.ProblemFence, Message: fmt.Sprintf("fence %s: %v", w.server, err),
			Hint: "look at the fence hook in agent.hcl and at the agent's log on the source",
		}
	}
	return nil
}

// unfence lets the source's writers go on: the cutover has failed.
func unfence(ctx context.Context, w *Work) error {
	if rec, err := w.record(); err != nil || !rec.Fence && w.data(dataReleasing) == "" {
		return either(err, &skip{"the source was not fenced"})
	}
	// Before the record forgets: a run that is cut off after that must still wait for the agent.
	if err := w.set(ctx, dataReleasing, "yes"); err != nil {
		return err
	}
	if err := w.orderFence(ctx, false); err != nil {
		return &protocol.Problem{
			Code: protocol.ProblemFence, Message: fmt.Sprintf("release the writers of %s: %v", w.server, err),
			Hint: "release them by hand on the source; the agent does it as soon as it can reach the controller; if the source is gone for good: " + lastPoint(w.server),
		}
	}
	w.progress(ctx)("the source's writers go on")
	return nil
}

func either(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (w *Work) orderFence(ctx context.Context, on bool) error {
	_, err := w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error {
		r.Fence, r.FenceKeep = on, false
		if on {
			r.FenceID = w.job
		}
		return nil
	})
	if err != nil {
		return err
	}
	ordered := time.Now()
	return await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		report, at, ok := w.reports.Agent(w.server)
		for _, p := range report.Problems {
			if on && p.Code == protocol.ProblemFence && at.After(ordered.Add(w.cfg.AgentLost)) { // it had time to try again
				return false, &p
			}
		}
		if on && lapsed(report, w.job) {
			return false, lapse(w.server)
		}
		return ok && at.After(ordered) && report.Fenced == on && (!on || report.FenceID == "" || report.FenceID == w.job), nil
	})
}

// lapsed says that the fence which a job ordered has ended by itself.
func lapsed(report protocol.AgentReport, job string) bool {
	return report.FenceLapsed && report.FenceID == job
}

func lapse(server string) *protocol.Problem {
	return &protocol.Problem{
		Code: protocol.ProblemFence, Server: server, Message: "the fence of " + server + " has ended by itself: its fence_max was over, or the source was restarted",
		Hint: "what was written since is not in the point: cut it over once more, or raise fence_max in its server block",
	}
}

// keep has the agent promise that the fence does not end by itself any more. When it has, nothing is committed: the agent makes one of both true, for good.
func keep(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil || !rec.Fence {
		return either(err, &skip{"the operator says that the writers are stopped"})
	}
	if _, err := w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error { r.FenceKeep = true; return nil }); err != nil {
		return err
	}
	ordered := time.Now()
	err = await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		report, at, _ := w.reports.Agent(w.server)
		switch {
		case lapsed(report, w.job):
			return false, &final{lapse(w.server)}
		case at.After(ordered) && report.Fenced && report.FenceID == "":
			return false, &skip{"the agent is of a version whose fence does not end by itself"}
		}
		return at.After(ordered) && report.FenceKept && report.FenceID == w.job, nil
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		_, at, _ := w.reports.Agent(w.server)
		return silent(w.server, ordered, at)
	}
	return err
}

// silent is the problem of a source whose agent has not promised to keep its fence in time. It may have died while it was fenced.
func silent(server string, ordered, heard time.Time) *protocol.Problem {
	text := "is heard of, and has not said it"
	if heard.Before(ordered) {
		text = "was last heard of at " + heard.Format(time.TimeOnly)
	}
	return &protocol.Problem{
		Code: protocol.ProblemFence, Server: server, Message: fmt.Sprintf("nothing is committed before the agent of %s says that its fence lasts, and it %s", server, text),
		Hint: "see whether the source and its agent run; the source goes on when its agent is there again, or when fence_max is over, and can be cut over once more; " +
			"if it is gone for good, its last point is what there is: " + lastPoint(server),
	}
}

// lastPoint is how a server is cut over whose source is gone.
func lastPoint(server string) string {
	return "set fence = \"confirmed\" in its server block, and rehost server cutover " + server + " --point newest --writers-stopped --force REASON"
}

// takePoint has a fresh point taken, for a cutover behind the fence. A failed point is not
// repaired: the next run takes a new one.
func takePoint(ctx context.Context, w *Work) error {
	if id := w.data(protocol.JobDataPoint); w.data(protocol.JobDataChosen) != "" {
		return w.useChosen(ctx, id)
	}
	id, members, err := w.orderPoint(ctx)
	if err != nil {
		return err
	}
	if err := w.points.Order(ctx, protocol.Point{ID: id, Server: w.server, Job: w.job, Group: w.application().Name, Members: members}); err != nil {
		return err
	}
	var pt protocol.Point
	err = await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		var err error
		if pt, err = w.points.Get(w.server, id); err != nil {
			return false, err
		}
		if pt.State == protocol.PointLost {
			return false, pt.Problem
		}
		return !point.Awaited(pt), nil
	})
	if err != nil {
		return err
	}
	if w.kind == protocol.JobCutover && !pt.Fenced {
		return w.refuseUnfenced(ctx, pt)
	}
	w.progress(ctx)(fmt.Sprintf("%s, %s, frozen for %s", pt.ID, pt.Grade, pt.Frozen.Round(time.Millisecond)))
	return nil
}

// orderPoint returns the point to be taken, and the servers that take it together: those of the application whose point nobody chose.
// One that was lost is followed by another one, for all of them.
func (w *Work) orderPoint(ctx context.Context) (id string, members []string, err error) {
	job, err := w.store.Jobs.Get(w.job)
	if err != nil {
		return "", nil, err
	}
	old, members := w.data(protocol.JobDataPoint), []string{w.server}
	if a := applicationOf(&job, w.server); a != nil {
		old, members = a.Point, nil
		for _, s := range job.Servers {
			if slices.Contains(a.Servers, s.Server) && s.Data[protocol.JobDataChosen] == "" {
				members = append(members, s.Server)
			}
		}
	}
	next := old
	if pt, err := w.points.Get(w.server, old); old == "" || err == nil && (pt.State == protocol.PointLost || pt.State == protocol.PointRemoved) {
		for _, s := range members {
			if err := w.awaitContinuous(ctx, s); err != nil {
				return "", nil, err
			}
		}
		next = newID("p")
	}
	err = w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		id = next
		if a := applicationOf(j, w.server); a != nil {
			if a.Point == old {
				a.Point = next
			}
			id = a.Point // another one of them may have been faster
		}
		hand(js, protocol.JobDataPoint, id)
	})
	return id, members, err
}

// refuseUnfenced drops a point that may lack what was written until the fence.
func (w *Work) refuseUnfenced(ctx context.Context, pt protocol.Point) error {
	settings, _, err := w.settings()
	if err != nil || settings.Fence == fleet.FenceConfirmed {
		return err
	}
	problem := &protocol.Problem{Code: protocol.ProblemFence, Message: "point " + pt.ID + " was taken while the source's writers were not fenced"}
	if err := w.points.Fail(ctx, pt, problem); err != nil {
		return err
	}
	if err := w.points.Remove(ctx, w.server, pt.ID); err != nil {
		return err
	}
	return problem
}

// awaitContinuous waits until a point of a server can be taken within the freeze budget.
func (w *Work) awaitContinuous(ctx context.Context, server string) error {
	progress := func(waits string) { w.progress(ctx)(server + " is waiting for " + waits) }
	rec, err := w.store.Servers.Get(server)
	if err != nil {
		return err
	}
	return await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		report, at, _ := w.reports.Agent(server)
		if silent := time.Since(at); silent > w.cfg.AgentLost {
			return false, &protocol.Problem{
				Code: protocol.ProblemAgentUnreachable, Message: fmt.Sprintf("the agent of %s has not been heard of for %s", server, silent.Round(time.Second)),
				Hint: "look on the source: systemctl status rehost-agent",
			}
		}
		if rec.Fence && !report.Fenced { // the source was restarted, say: its agent fences it again
			progress("the fence")
			return false, nil
		}
		if report.Replication == protocol.ReplicationContinuous || report.Replication == protocol.ReplicationSnapshot {
			return true, nil
		}
		if report.Replication != "" {
			progress("CONTINUOUS, now " + string(report.Replication))
		}
		return false, nil
	})
}

// awaitSnapshots waits until the point is offered.
func awaitSnapshots(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil {
		return err
	}
	var pt protocol.Point
	err = await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		var err error
		if pt, err = w.points.Get(w.server, w.data(protocol.JobDataPoint)); err != nil {
			return false, err
		}
		switch pt.State {
		case protocol.PointLost:
			return false, &final{pt.Problem}
		case protocol.PointRemoved:
			return false, &final{fmt.Errorf("the snapshots of point %s were deleted", pt.ID)}
		case protocol.PointOrdered, protocol.PointHeld, protocol.PointSnapshotting, protocol.PointComplete:
		}
		return pt.State == protocol.PointComplete, nil
	})
	if err != nil {
		return err
	}
	if len(pt.Snapshots) != len(rec.Volumes) || !slices.ContainsFunc(rec.Volumes, func(v protocol.StagingVolume) bool { return v.Boot }) {
		return &final{fmt.Errorf("point %s has %d snapshots for %d disks, or none of them is the boot disk", pt.ID, len(pt.Snapshots), len(rec.Volumes))}
	}
	if err := w.set(ctx, dataSnapshots, strings.Join(pt.Snapshots, ",")); err != nil {
		return err
	}
	w.progress(ctx)(strings.Join(pt.Snapshots, ", "))
	return nil
}

// disconnect ends the agent's work.
func disconnect(ctx context.Context, w *Work) error { return w.staging.Disconnect(ctx, w.server) }

// release ends the replica's work.
func release(ctx context.Context, w *Work) error { return w.staging.Unassign(ctx, w.server) }

// awaitIdle waits until replication servers that carry nothing are gone.
func awaitIdle(ctx context.Context, w *Work) error {
	return w.staging.Retire(ctx)
}

// finalize records that the migration is over.
func finalize(ctx context.Context, w *Work) error {
	_, err := w.store.Servers.Update(ctx, w.server, func(r *protocol.Server) error {
		if r.Finalized.IsZero() {
			r.Finalized = time.Now()
		}
		return nil
	})
	return err
}
