// Package operator answers what operators ask: plan and apply, status, jobs, points, tokens.
// It changes records and starts jobs; what follows from them is done elsewhere.
package operator

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/audit"
	"rehost/controller/internal/backup"
	"rehost/controller/internal/event"
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

// gated is how many requests that ask programs and pages are handled at once: these may take long.
const gated = 8

// Tokens makes one-time enrolment tokens.
type Tokens interface {
	Token(role, name string, ttl time.Duration) (text, id string, err error)
}

// Cloud is what the desk needs of the cloud.
type Cloud interface {
	preflight.Cloud
	leftover.Cloud
}

// Account says what the cloud does not allow or have room for, of what a configuration needs. It remembers good answers for a while.
type Account interface {
	Findings(ctx context.Context, f protocol.Fleet) []protocol.Finding
	Forget()
}

// Config is what the answers need besides records.
type Config struct {
	LostAfter   time.Duration // of an agent's silence
	ReplicaLost time.Duration
	Bus         protocol.Bus    // to hand out with tokens
	Leader      *protocol.Lease // of this controller, when there may be others; nil: there are none
}

// Desk answers operators.
type Desk struct {
	cfg     Config
	store   *store.Store
	reports *observe.Reports
	runner  *step.Runner
	points  *point.Points
	cloud   Cloud
	account Account
	staging *staging.Staging
	audit   *audit.Log
	events  *event.Publisher
	backup  *backup.Cuts
	tokens  Tokens  // nil: the bus is not ours
	revoker Revoker // the same
}

// NewDesk makes a Desk.
func NewDesk(cfg Config, st *store.Store, reports *observe.Reports, runner *step.Runner, points *point.Points, sg *staging.Staging, c Cloud, account Account, log *audit.Log, cuts *backup.Cuts, events *event.Publisher, tokens Tokens, revoker Revoker) *Desk {
	return &Desk{cfg: cfg, store: st, reports: reports, runner: runner, points: points, staging: sg, cloud: c, account: account, audit: log, backup: cuts, events: events, tokens: tokens, revoker: revoker}
}

// Endpoints lists what the desk answers. All requests that change something are kept in the audit log.
func (d *Desk) Endpoints() []bus.Endpoint {
	all := []endpoint{
		handle(protocol.VerbPlan, d.Plan), handle(protocol.VerbApply, d.Apply), handle(protocol.VerbStatus, d.Status),
		handle(protocol.VerbStart, d.runner.Start), handle(protocol.VerbChange, d.Change), handle(protocol.VerbJob, d.Job), handle(protocol.VerbJobs, d.Jobs),
		handle(protocol.VerbCancel, d.runner.Cancel), handle(protocol.VerbPoints, d.Points),
		handle(protocol.VerbPoint, d.Point), handle(protocol.VerbPin, d.Pin), handle(protocol.VerbRemove, d.Remove), handle(protocol.VerbSweep, d.Sweep),
		handle(protocol.VerbVerify, d.Verify), handle(protocol.VerbPreflight, d.Preflight), handle(protocol.VerbToken, d.Token), handle(protocol.VerbVersion, d.Version),
		handle(protocol.VerbAudit, d.audit.Page), handle(protocol.VerbEvents, d.events.Page), handle(protocol.VerbMove, d.staging.Move), handle(protocol.VerbRunbook, d.runner.Runbook),
		handle(protocol.VerbBackup, d.backup.Piece),
		handle(protocol.VerbReport, d.Report), handle(protocol.VerbScreenshot, d.Screenshot),
		handle(protocol.VerbApprove, d.runner.Approve), handle(protocol.VerbApprovals, d.runner.Approvals),
	}
	out := make([]bus.Endpoint, 0, len(all))
	for _, e := range all {
		kept := d.audit.Keep(e.Endpoint, bus.Sender, e.reads)
		if e.Name == string(protocol.VerbStart) || e.Name == string(protocol.VerbRunbook) {
			kept = kept.AtOnce(gated)
		}
		out = append(out, kept)
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
	return protocol.VersionReply{Version: version.String(), Leader: d.cfg.Leader}, nil
}
