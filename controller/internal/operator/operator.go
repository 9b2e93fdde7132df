// Package operator answers what operators ask: plan and apply, status, jobs, points, tokens.
// It changes records and starts jobs; what follows from them is done elsewhere.
package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/audit"
	"rehost/controller/internal/fleet"
	"rehost/controller/internal/leftover"
	"rehost/controller/internal/observe"
	"rehost/controller/internal/point"
	"rehost/controller/internal/preflight"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/step"
	"rehost/controller/internal/store"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/version"
	"rehost/protocol"
)

// Tokens makes one-time enrolment tokens.
type Tokens interface {
	Token(role, name string, ttl time.Duration) (text, id string, err error)
}

// Cloud is what the desk needs of the cloud.
type Cloud interface {
	preflight.Cloud
	leftover.Cloud
}

// Config is what the answers need besides records.
type Config struct {
	LostAfter   time.Duration // of an agent's silence
	ReplicaLost time.Duration
	Bus         protocol.Bus // to hand out with tokens
}

// Desk answers operators.
type Desk struct {
	cfg     Config
	store   *store.Store
	reports *observe.Reports
	runner  *step.Runner
	points  *point.Points
	cloud   Cloud
	staging *staging.Staging
	audit   *audit.Log
	tokens  Tokens  // nil: the bus is not ours
	revoker Revoker // the same
}

// NewDesk makes a Desk.
func NewDesk(cfg Config, st *store.Store, reports *observe.Reports, runner *step.Runner, points *point.Points, sg *staging.Staging, c Cloud, log *audit.Log, tokens Tokens, revoker Revoker) *Desk {
	return &Desk{cfg: cfg, store: st, reports: reports, runner: runner, points: points, staging: sg, cloud: c, audit: log, tokens: tokens, revoker: revoker}
}

// Endpoints lists what the desk answers. All requests that change something are kept in the audit log.
func (d *Desk) Endpoints() []bus.Endpoint {
	all := []endpoint{
		handle(protocol.VerbPlan, d.Plan), handle(protocol.VerbApply, d.Apply), handle(protocol.VerbStatus, d.Status),
		handle(protocol.VerbStart, d.runner.Start), handle(protocol.VerbChange, d.Change), handle(protocol.VerbJob, d.Job), handle(protocol.VerbJobs, d.Jobs),
		handle(protocol.VerbCancel, d.runner.Cancel), handle(protocol.VerbPoints, d.Points),
		handle(protocol.VerbPoint, d.Point), handle(protocol.VerbPin, d.Pin), handle(protocol.VerbRemove, d.Remove), handle(protocol.VerbSweep, d.Sweep),
		handle(protocol.VerbVerify, d.Verify), handle(protocol.VerbPreflight, d.Preflight), handle(protocol.VerbToken, d.Token), handle(protocol.VerbVersion, d.Version),
		handle(protocol.VerbAudit, d.audit.Page), handle(protocol.VerbMove, d.staging.Move), handle(protocol.VerbRunbook, d.runner.Runbook),
	}
	out := make([]bus.Endpoint, 0, len(all))
	for _, e := range all {
		out = append(out, d.audit.Keep(e.Endpoint, bus.Sender, e.reads))
	}
	return out
}

// endpoint is one verb's.
type endpoint struct {
	bus.Endpoint
	reads func(body []byte) bool
}

func handle[Req, Reply any](verb protocol.Verb, fn func(context.Context, Req) (Reply, error)) endpoint {
	return endpoint{bus.Handle(string(verb), protocol.OperatorSubject(verb, "*"), fn), func(body []byte) bool {
		var req Req
		if len(body) > 0 && json.Unmarshal(body, &req) != nil {
			return false
		}
		r, ok := any(req).(protocol.Reader)
		return ok && r.Reads()
	}}
}

// Plan says what applying a configuration would change.
func (d *Desk) Plan(ctx context.Context, req protocol.PlanRequest) (protocol.Plan, error) {
	warnings, p := d.validate(ctx, req.Fleet)
	if p != nil {
		return protocol.Plan{}, p
	}
	plan, err := fleet.Plan(d.store.Applied(), req.Fleet)
	plan.Warnings = warnings
	return plan, err
}

// validate says what is wrong with a configuration, by itself and as the cloud sees it. A cloud that cannot be asked is no
// reason to refuse it.
func (d *Desk) validate(ctx context.Context, f protocol.Fleet) (warnings []string, p *protocol.Problem) {
	if p := fleet.Validate(f); p != nil {
		return nil, p
	}
	limited, cancel := context.WithTimeout(ctx, preflightWithin)
	defer cancel()
	p, warnings = preflight.Check(limited, d.cloud, f, d.known)
	if text := d.count(f); text != "" {
		warnings = append(warnings, text)
	}
	return append(warnings, d.runner.Never(f)...), p
}

// known is what is known of a server that may not have a record yet.
func (d *Desk) known(server string) preflight.Known {
	report, _, _ := d.reports.Agent(server)
	r, err := d.store.Servers.Get(server)
	return preflight.Known{Host: report.Host, Launched: err == nil && (r.Cutover != nil || !r.Finalized.IsZero() || r.Lifecycle == protocol.Disconnected)}
}

// preflightWithin is how long the cloud may take: a person waits, and the bus's patience is not much longer.
const preflightWithin = 2500 * time.Millisecond

// Apply makes a configuration the applied one, if the world is as the plan saw it.
func (d *Desk) Apply(ctx context.Context, req protocol.ApplyRequest) (protocol.Plan, error) {
	warnings, p := d.validate(ctx, req.Fleet)
	if p != nil {
		return protocol.Plan{}, p
	}
	err := d.store.Fleet.Create(ctx, store.AppliedKey, protocol.Fleet{})
	if err != nil && !errors.Is(err, store.ErrExists) {
		return protocol.Plan{}, err
	}
	var plan protocol.Plan
	_, err = d.store.Fleet.Update(ctx, store.AppliedKey, func(applied *protocol.Fleet) error {
		var err error
		if plan, err = fleet.Plan(*applied, req.Fleet); err != nil {
			return err
		}
		if req.Hash != "" && req.Hash != plan.Hash {
			return &protocol.Problem{
				Code: protocol.ProblemConflict, Message: fmt.Sprintf("the plan %s is stale: it would be %s now", req.Hash, plan.Hash),
				Hint: "look at the new plan: rehost plan",
			}
		}
		if p := d.busy(plan); p != nil {
			return p
		}
		*applied = req.Fleet
		return nil
	})
	plan.Warnings = warnings
	return plan, err
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

// jobOf returns the job that has not completed and names the server, whether it has come to it or not.
func (d *Desk) jobOf(server string) string {
	jobs, err := d.store.Jobs.List("")
	if err != nil {
		return ""
	}
	for _, j := range jobs {
		if !j.Status.Ended() && slices.ContainsFunc(j.Servers, func(s protocol.JobServer) bool { return s.Server == server }) {
			return j.ID
		}
	}
	return ""
}

// Points returns a server's points, newest first.
func (d *Desk) Points(_ context.Context, req protocol.PointsRequest) ([]protocol.Point, error) {
	if _, err := d.store.Servers.Get(req.Server); err != nil {
		return nil, unknownServer(req.Server)
	}
	points, err := d.store.Points.List(req.Server + ".")
	slices.SortFunc(points, func(a, b protocol.Point) int { return b.Ordered.Compare(a.Ordered) })
	return points, err
}

func unknownServer(name string) *protocol.Problem {
	return &protocol.Problem{Code: protocol.ProblemUnknown, Message: fmt.Sprintf("no server %q", name), Hint: "rehost status lists the servers"}
}

// Token makes a one-time enrolment token.
func (d *Desk) Token(_ context.Context, req protocol.TokenRequest) (protocol.TokenReply, error) {
	if d.tokens == nil {
		return protocol.TokenReply{}, &protocol.Problem{
			Code: protocol.ProblemNotAllowed, Message: "this controller uses a bus that it does not run", Hint: "make the identity with the tools of that bus",
		}
	}
	if req.TTL == 0 {
		req.TTL = broker.MaxTokenTTL
	}
	if req.Role == "" {
		req.Role = protocol.RoleAgent
	}
	expires := time.Now().Add(req.TTL)
	text, _, err := d.tokens.Token(req.Role, req.Name, req.TTL)
	if err != nil {
		return protocol.TokenReply{}, &protocol.Problem{
			Code: protocol.ProblemInvalid, Message: err.Error(), Hint: "give a role that enrols, a name, and a lifetime of up to " + broker.MaxTokenTTL.String(),
		}
	}
	return protocol.TokenReply{Token: text, Bus: d.cfg.Bus, Expires: expires}, nil
}

// Version says which build this is.
func (d *Desk) Version(context.Context, protocol.VersionRequest) (protocol.VersionReply, error) {
	return protocol.VersionReply{Version: version.String()}, nil
}
