package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/preflight"
	"rehost/controller/internal/store"
	"rehost/protocol"
)

// preflightWithin is how long the cloud may take: a person waits, and the bus's patience is not much longer.
const preflightWithin = 2500 * time.Millisecond

// Plan says what applying a configuration would change.
func (d *Desk) Plan(ctx context.Context, req protocol.PlanRequest) (protocol.Plan, error) {
	applied := d.store.Applied()
	wanted, p := fleet.Target(applied, req.Fleet, req.Targets)
	if p == nil {
		p = fleet.Validate(wanted)
	}
	if p != nil {
		return protocol.Plan{}, p
	}
	look, p := d.look(ctx, wanted)
	if p != nil {
		return protocol.Plan{}, p
	}
	return d.planned(applied, wanted, look)
}

// look is how a configuration looks to the cloud.
type look struct {
	warnings []string
	findings []protocol.Finding
}

// look asks the cloud about a configuration. A cloud that cannot be asked is no reason to refuse it.
func (d *Desk) look(ctx context.Context, f protocol.Fleet) (out look, p *protocol.Problem) {
	limited, cancel := context.WithTimeout(ctx, preflightWithin)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { out.findings = d.account.Findings(limited, f) })
	p, out.warnings = preflight.Check(limited, d.cloud, f, d.known)
	wg.Wait()
	out.warnings = append(append(out.warnings, d.runner.Never(f)...), unsaid(out.findings)...)
	return out, p
}

// unsaid is one warning of what the cloud does not say: in an empty account it says little, and only what is applied can be looked at again.
func unsaid(found []protocol.Finding) []string {
	var unknown []string
	for _, f := range found {
		if f.Code == protocol.FindingCloudUnknown {
			unknown = append(unknown, f.Message)
		}
	}
	switch len(unknown) {
	case 0, 1:
		return unknown
	}
	return []string{fmt.Sprintf("%s; and %d more such, which rehost server preflight shows once this is applied", unknown[0], len(unknown)-1)}
}

// known is what is known of a server that may not have a record yet.
func (d *Desk) known(server string) preflight.Known {
	report, _, _ := d.reports.Agent(server)
	r, err := d.store.Servers.Get(server)
	return preflight.Known{Host: report.Host, Launched: err == nil && (r.Cutover != nil || !r.Finalized.IsZero() || r.Lifecycle == protocol.Disconnected)}
}

// planned compares, and tells what is known of the cloud and of the servers that the wanted configuration has.
func (d *Desk) planned(applied, wanted protocol.Fleet, seen look) (protocol.Plan, error) {
	view, err := d.view(applied, wanted)
	if err != nil {
		return protocol.Plan{}, err
	}
	plan, err := fleet.Plan(applied, wanted, view)
	plan.Findings, plan.Warnings = append(ofCloud(shown(seen.findings)), d.findings(wanted, view)...), seen.warnings
	return plan, err
}

// view gathers what is recorded and observed of the servers of both configurations.
func (d *Desk) view(configurations ...protocol.Fleet) (fleet.View, error) {
	v := fleet.View{Servers: map[string]protocol.Server{}, Disks: map[string][]protocol.DiskReport{}, Points: map[string]int{}}
	records, err := d.store.Servers.List("")
	if err != nil {
		return v, err
	}
	for _, r := range records {
		v.Servers[r.Name] = r
	}
	for _, f := range configurations {
		for _, s := range f.Servers {
			if report, _, known := d.reports.Agent(s.Name); known {
				v.Disks[s.Name] = report.Disks
			}
		}
	}
	points, err := d.store.Points.List("")
	if err != nil {
		return v, err
	}
	for _, pt := range points {
		if len(pt.Snapshots) > 0 && pt.State != protocol.PointRemoved {
			v.Points[pt.Server]++
		}
	}
	v.Replicas, err = d.store.Staging.List("")
	return v, err
}

// Apply makes a configuration the applied one, if the world is as the plan saw it.
func (d *Desk) Apply(ctx context.Context, req protocol.ApplyRequest) (protocol.Plan, error) {
	if err := d.store.Fleet.Create(ctx, store.AppliedKey, protocol.Fleet{}); err != nil && !errors.Is(err, store.ErrExists) {
		return protocol.Plan{}, err
	}
	// The cloud is asked before the record is changed: it is slow, and the change may be tried several times.
	wanted, p := fleet.Target(d.store.Applied(), req.Fleet, req.Targets)
	if p == nil {
		p = fleet.Validate(wanted)
	}
	if p != nil {
		return protocol.Plan{}, p
	}
	seen, p := d.look(ctx, wanted)
	if p != nil {
		return protocol.Plan{}, p
	}
	var plan protocol.Plan
	_, err := d.store.Fleet.Update(ctx, store.AppliedKey, func(applied *protocol.Fleet) error {
		wanted, p := fleet.Target(*applied, req.Fleet, req.Targets)
		if p == nil {
			p = fleet.Validate(wanted)
		}
		if p != nil {
			return p
		}
		var err error
		if plan, err = d.planned(*applied, wanted, seen); err != nil {
			return err
		}
		if req.Hash != "" {
			if p := fleet.Stale(req.Hash, req.Changes, plan); p != nil {
				return p
			}
		}
		if p := d.busy(plan); p != nil {
			return p
		}
		if p := unready(plan, seen.findings); p != nil {
			return p
		}
		if len(plan.Changes) > 0 {
			*applied = wanted
		}
		return nil
	})
	return plan, err
}

// unready refuses to make or change anything while the cloud would not let it be done. What is only removed is no such thing.
func unready(plan protocol.Plan, found []protocol.Finding) *protocol.Problem {
	p := preflight.Blocks(protocol.Preflight{Findings: slices.DeleteFunc(slices.Clone(found), func(f protocol.Finding) bool { return !f.BlocksApply() })})
	if p == nil || !slices.ContainsFunc(plan.Changes, func(c protocol.PlanChange) bool { return c.Action != protocol.PlanRemove }) {
		return nil
	}
	p.Hint = "rehost plan shows what to do about each; then apply again"
	return p
}

// busy refuses to remove a server that a job works on or will work on, or whose cutover is not finalized:
// its replica would stay for ever, since nobody could finalize it.
func (d *Desk) busy(plan protocol.Plan) *protocol.Problem {
	for _, c := range plan.Changes {
		if c.Kind != "server" || c.Action != "remove" {
			continue
		}
		no := &protocol.Problem{Code: protocol.ProblemConflict, Server: c.Name}
		if job := d.jobOf(c.Name); job != "" {
			no.Message, no.Hint = fmt.Sprintf("server %s cannot be removed: it is in job %s", c.Name, job), "wait for the job: rehost job show "+job
			return no
		}
		if r, err := d.store.Servers.Get(c.Name); err == nil && r.Lifecycle == protocol.CuttingOver {
			no.Message, no.Hint = fmt.Sprintf("server %s cannot be removed: its cutover is not finalized", c.Name), "finalize or revert it first: rehost server finalize "+c.Name+", rehost server revert "+c.Name
			return no
		}
	}
	return nil
}
