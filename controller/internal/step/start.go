package step

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/lifecycle"
	"rehost/controller/internal/preflight"
	"rehost/controller/internal/wave"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Start records a job for the selected servers, or says why there must be none. Servers that have nothing left to do are
// left out; any other refusal refuses the whole job.
func (r *Runner) Start(ctx context.Context, req protocol.StartRequest) (protocol.Job, error) {
	if _, ok := plans[req.Kind]; !ok {
		return protocol.Job{}, &protocol.Problem{Code: protocol.ProblemInvalid, Message: fmt.Sprintf("unknown kind of job %q", req.Kind)}
	}
	var asked answers
	if plan, err := wave.Select(r.store.Applied(), req.Selection); err == nil && gates(req) {
		asked = r.ask(ctx, plan.Servers)
	}
	r.starting.Lock()
	defer r.starting.Unlock()
	applied := r.store.Applied()
	plan, err := wave.Select(applied, req.Selection)
	if err != nil {
		return protocol.Job{}, &protocol.Problem{Code: protocol.ProblemUnknown, Message: err.Error(), Hint: hint.Of(err)}
	}
	if p := unsealed(applied, plan, req); p != nil {
		return protocol.Job{}, p
	}
	if err := r.refusal(applied, plan, req, bus.Sender(ctx), asked); err != nil {
		return protocol.Job{}, err
	}
	if err := r.ready(ctx, applied, plan, req); err != nil {
		return protocol.Job{}, err
	}
	job := protocol.Job{
		ID: jobPrefix[req.Kind] + newID(""), Kind: req.Kind, Of: req.Selection, Status: protocol.JobPending, Created: time.Now(),
		Force: req.Force, Confirmed: req.Confirmed, Concurrency: plan.Concurrency, StopOnFailure: req.StopOnFailure, KeepClones: req.KeepClones,
	}
	if req.Concurrency > 0 {
		job.Concurrency = req.Concurrency
	}
	var late *protocol.Problem
	if job.Deadline, late = r.deadline(applied, plan, req, job.Created); late != nil {
		return protocol.Job{}, late
	}
	if req.Rehearse {
		job.ID, job.Rehearsal = "rehearsal-"+newID(""), &protocol.Rehearsal{Keep: req.Keep}
	}
	if asOne(req) {
		job.Applications = applications(r.orderOf(applied, plan.Servers, job.Concurrency), r.over)
	}
	chosen, err := r.choose(plan, req)
	if err != nil {
		return protocol.Job{}, err
	}
	for _, name := range plan.Servers {
		s := protocol.JobServer{Server: name, Status: protocol.StepNotStarted, Data: map[string]string{}}
		if id := chosen[name]; id != "" {
			s.Data[protocol.JobDataPoint], s.Data[protocol.JobDataChosen] = id, "yes"
		}
		s.Steps = notStarted(stepsOf(job))
		job.Servers = append(job.Servers, s)
	}
	if err := r.document(ctx, &job, applied, asked); err != nil {
		return protocol.Job{}, err
	}
	if err := r.yield(ctx, plan.Servers, job.ID); err != nil {
		return protocol.Job{}, err
	}
	if err := r.store.Jobs.Create(ctx, job.ID, job); err != nil {
		return protocol.Job{}, err
	}
	r.wake()
	return job, nil
}

func notStarted(steps []step) []protocol.JobStep {
	out := make([]protocol.JobStep, 0, len(steps))
	for _, st := range steps {
		out = append(out, protocol.JobStep{Name: st.name, Status: protocol.StepNotStarted})
	}
	return out
}

// asOne says whether a job is for what there still is to be cut over, and does the servers of an application as one.
func asOne(req protocol.StartRequest) bool { return req.Kind == protocol.JobCutover || req.Rehearse }

var jobPrefix = map[protocol.JobKind]string{
	protocol.JobTest: "test-", protocol.JobCutover: "cutover-", protocol.JobFinalize: "finalize-", protocol.JobTerminate: "terminate-",
	protocol.JobRevert: "revert-",
}

// newID makes an id that sorts by time.
func newID(prefix string) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}

// cloudWithin is how long a start waits for what the cloud would refuse: its answer must come while somebody waits for it. What is not known by
// then does not keep a job from being started.
const cloudWithin = time.Second

// ready says why the cloud would not let a job come to its end.
func (r *Runner) ready(ctx context.Context, applied protocol.Fleet, plan wave.Plan, req protocol.StartRequest) error {
	switch {
	case req.Force != "":
		return nil
	case req.Kind == protocol.JobFinalize:
		return r.targetsThere(ctx, plan)
	case req.Kind != protocol.JobTest && req.Kind != protocol.JobCutover:
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, cloudWithin)
	defer cancel()
	found := r.account.Findings(limited, fleet.Of(applied, plan.Servers))
	if p := preflight.Blocks(protocol.Preflight{Findings: found}); p != nil {
		return p
	}
	return ctx.Err() // nobody waits any more: then no job begins that nobody knows of
}

// targetsThere refuses to remove the replicas of servers whose targets are no more: with them would go the last copy in the cloud.
func (r *Runner) targetsThere(ctx context.Context, plan wave.Plan) error {
	targets, err := r.cloud.Instances(ctx, cloud.Tags{cloud.TagRole: cloud.RoleTarget})
	if err != nil {
		return fmt.Errorf("look whether the targets are there: %w", err)
	}
	var gone []string
	for _, name := range plan.Servers {
		rec, err := r.store.Servers.Get(name)
		if err != nil || rec.Cutover == nil || rec.Lifecycle == protocol.Cutover {
			continue // it has no target, or no replica any more
		}
		if !slices.ContainsFunc(targets, func(i cloud.Instance) bool { return i.ID == rec.Cutover.Instance && i.Alive() }) {
			gone = append(gone, fmt.Sprintf("the target of %s, %s, is no more", name, rec.Cutover.Instance))
		}
	}
	if len(gone) == 0 {
		return ctx.Err()
	}
	return &protocol.Problem{
		Code: protocol.ProblemNotAllowed, Message: strings.Join(gone, "; ") + ": finalizing would remove the last copy in the cloud",
		Hint: "take the cutover back, so that the source goes on, and cut it over once more: rehost server revert NAME; or give a reason with --force",
	}
}

func (r *Runner) refusal(applied protocol.Fleet, plan wave.Plan, req protocol.StartRequest, asker string, asked answers) error {
	if p := r.tooEarly(applied, plan, req, asker, asked); p != nil {
		return p
	}
	if p := r.overlap(plan); p != nil {
		return p
	}
	var reasons []string
	var first *protocol.Problem
	done := 0
	allOver := !slices.ContainsFunc(plan.Servers, func(s string) bool { return !r.over(s) }) // if so, each says what can be done with it
	for _, name := range plan.Servers {
		rec, err := r.store.Servers.Get(name)
		if err != nil {
			rec = protocol.Server{Name: name, Lifecycle: protocol.NotReady}
		}
		if rec.Lifecycle == protocol.Cutover || (req.Kind == protocol.JobTerminate && rec.Test == nil) || (asOne(req) && r.over(name) && !allOver) {
			done++
			continue
		}
		p := lifecycle.Refusal(rec, protocol.Action(req.Kind), req.Force)
		settings, replication, launch, _ := fleet.Settings(applied, name)
		if p == nil && req.Force == "" && (req.Kind == protocol.JobTest || req.Kind == protocol.JobCutover) {
			report, _, known := r.reports.Agent(name)
			p = preflight.Blocks(preflight.Server(name, report, known, preflight.SurveyOrder(rec.Survey, launch), replication))
		}
		if p == nil && req.Kind == protocol.JobCutover && settings.Fence == fleet.FenceConfirmed && !req.Confirmed {
			p = &protocol.Problem{
				Code: protocol.ProblemNotAllowed, Server: name, Message: name + ": nobody has said that its writers are stopped",
				Hint: "stop them, and say so with --writers-stopped",
			}
		}
		if p != nil {
			if first == nil {
				first = p
			}
			reasons = append(reasons, p.Message)
		}
	}
	if first != nil {
		out := *first
		out.Message, out.At = strings.Join(reasons, "; "), time.Now()
		return &out
	}
	if done == len(plan.Servers) {
		return &protocol.Problem{Code: protocol.ProblemNotAllowed, Message: plan.Of.String() + " has nothing left to do", Hint: "look at where they stand: rehost status"}
	}
	return nil
}

// overlap refuses a job for servers that a job which is not completed holds or will hold. Those that give way do not count.
func (r *Runner) overlap(plan wave.Plan) *protocol.Problem {
	jobs, err := r.store.Jobs.List("")
	if err != nil {
		return &protocol.Problem{Code: protocol.ProblemInternal, Message: err.Error()}
	}
	for _, job := range jobs {
		if job.Status.Ended() || job.Ready {
			continue
		}
		for _, s := range job.Servers {
			if slices.Contains(plan.Servers, s.Server) {
				return &protocol.Problem{
					Code: protocol.ProblemConflict, Server: s.Server, Message: fmt.Sprintf("job %s is not completed, and %s is in it", job.ID, s.Server),
					Hint: "wait for it: rehost job show " + job.ID + " --follow; or end it: rehost job cancel " + job.ID,
				}
			}
		}
	}
	return nil
}

// gates says whether gates must be open for a job.
func gates(req protocol.StartRequest) bool { return req.Kind == protocol.JobCutover && req.Force == "" }

// tooEarly refuses a cutover while what comes before it is not cut over, or a gate of a wave is closed.
func (r *Runner) tooEarly(applied protocol.Fleet, plan wave.Plan, req protocol.StartRequest, asker string, asked answers) *protocol.Problem {
	if !gates(req) {
		return nil
	}
	whole, err := wave.NewGraph(applied)
	if err != nil {
		return &protocol.Problem{Code: protocol.ProblemInvalid, Message: err.Error(), Hint: hint.Of(err)}
	}
	if group, server, unmet := whole.Unmet(plan.Servers, r.over); unmet {
		return &protocol.Problem{
			Code: protocol.ProblemNotAllowed, Message: fmt.Sprintf("%s comes after %s, whose server %s is not cut over", plan.Of, group, server),
			Hint: "cut over " + group + " first, or give a reason with --force",
		}
	}
	atOnce := plan.Concurrency
	if req.Concurrency > 0 {
		atOnce = req.Concurrency
	}
	return r.closedGates(applied, plan, whole, atOnce, asker, asked)
}
