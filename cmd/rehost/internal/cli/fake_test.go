package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/hint"
	"rehost/protocol"
)

// fake is a controller that answers the operator's verbs from memory. Each poll moves
// what is under way one step, so that transcripts need no clock.
type fake struct {
	mu       sync.Mutex
	bus      protocol.Bus
	applied  map[string]string // by "kind name"; of a launch block its type
	polls    int               // of the status
	compared string            // the point of the newest verify
	jobs     map[string]*protocol.Job
	newest   string
	taken    map[string][]protocol.Point // by server, oldest first
	moves    int                         // looks at the server that is being moved, to go
	moved    string                      // where it is to be then
	looks    int                         // at a survey that is under way, to go
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// startFake runs a bus and the fake on it, and returns the operator's context file.
func startFake(tb testing.TB) (contextFile string, server *broker.Server) {
	tb.Helper()
	server = bustest.Start(tb)
	nc := bustest.Connect(tb, server, protocol.RoleController, "controller")
	f := &fake{bus: server.Bus(), applied: map[string]string{}, jobs: map[string]*protocol.Job{}, taken: map[string][]protocol.Point{}}
	err := bus.Serve(tb.Context(), nc, hclog.NewNullLogger(), "controller",
		bus.Handle("plan", protocol.OperatorSubject(protocol.VerbPlan, "*"), f.plan),
		bus.Handle("apply", protocol.OperatorSubject(protocol.VerbApply, "*"), f.apply),
		bus.Handle("status", protocol.OperatorSubject(protocol.VerbStatus, "*"), f.status),
		bus.Handle("start", protocol.OperatorSubject(protocol.VerbStart, "*"), f.start),
		bus.Handle("change", protocol.OperatorSubject(protocol.VerbChange, "*"), f.change),
		bus.Handle("jobs", protocol.OperatorSubject(protocol.VerbJobs, "*"), f.list),
		bus.Handle("cancel", protocol.OperatorSubject(protocol.VerbCancel, "*"), f.cancel),
		bus.Handle("job", protocol.OperatorSubject(protocol.VerbJob, "*"), f.job),
		bus.Handle("points", protocol.OperatorSubject(protocol.VerbPoints, "*"), f.points),
		bus.Handle("point", protocol.OperatorSubject(protocol.VerbPoint, "*"), f.point),
		bus.Handle("pin", protocol.OperatorSubject(protocol.VerbPin, "*"), f.pin),
		bus.Handle("remove", protocol.OperatorSubject(protocol.VerbRemove, "*"), f.remove),
		bus.Handle("sweep", protocol.OperatorSubject(protocol.VerbSweep, "*"), f.sweep),
		bus.Handle("move", protocol.OperatorSubject(protocol.VerbMove, "*"), f.move),
		bus.Handle("verify", protocol.OperatorSubject(protocol.VerbVerify, "*"), f.verify),
		bus.Handle("preflight", protocol.OperatorSubject(protocol.VerbPreflight, "*"), f.preflight),
		bus.Handle("runbook", protocol.OperatorSubject(protocol.VerbRunbook, "*"), f.runbook),
		bus.Handle("screenshot", protocol.OperatorSubject(protocol.VerbScreenshot, "*"), func(_ context.Context, req protocol.ScreenshotRequest) (protocol.Screenshot, error) {
			if req.Server != "web-1" {
				return protocol.Screenshot{}, &protocol.Problem{Code: protocol.ProblemUnknown, Message: "job " + req.Job + " has no screenshot of " + req.Server, Hint: "rehost job show"}
			}
			return protocol.Screenshot{Instance: "i-1", At: epoch, Image: []byte("\x89PNG\r\n\x1a\n...")}, nil
		}),
		bus.Handle("report", protocol.OperatorSubject(protocol.VerbReport, "*"), f.report),
		bus.Handle("approve", protocol.OperatorSubject(protocol.VerbApprove, "*"), f.approve),
		bus.Handle("approvals", protocol.OperatorSubject(protocol.VerbApprovals, "*"), f.approvals),
		bus.Handle("token", protocol.OperatorSubject(protocol.VerbToken, "*"), f.token),
		bus.Handle("audit", protocol.OperatorSubject(protocol.VerbAudit, "*"), f.audit),
		bus.Handle("events", protocol.OperatorSubject(protocol.VerbEvents, "*"), f.events),
		bus.Handle("backup", protocol.OperatorSubject(protocol.VerbBackup, "*"), f.backup),
		bus.Handle("version", protocol.OperatorSubject(protocol.VerbVersion, "*"), f.version),
	)
	if err != nil {
		tb.Fatal(err)
	}
	contextFile = tb.TempDir() + "/context.json"
	if err := bus.SaveContext(contextFile, bustest.Context(tb, server, protocol.RoleOperator, "operator")); err != nil {
		tb.Fatal(err)
	}
	return contextFile, server
}

func (f *fake) plan(_ context.Context, req protocol.PlanRequest) (protocol.Plan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.diff(req), nil
}

// diff is a plan that knows a change of a launch block besides what is new: when "web" is to be another type than the applied.
func (f *fake) diff(req protocol.PlanRequest) protocol.Plan {
	plan := protocol.Plan{Changes: []protocol.PlanChange{}}
	for _, l := range req.Fleet.Launches {
		if old := f.applied["launch "+l.Name]; old != "" && old != l.InstanceType {
			plan.Changes = append(plan.Changes, protocol.PlanChange{Action: protocol.PlanUpdate, Kind: "launch", Name: l.Name, Effects: []string{"for launches from now on"}, Fields: []protocol.FieldChange{
				{Field: "instance_type", Before: json.RawMessage(`"` + old + `"`), After: json.RawMessage(`"` + l.InstanceType + `"`)},
				{Field: "grace_ns", Before: json.RawMessage("60000000000"), After: json.RawMessage("600000000000")},
				{Field: "some_bytes", After: json.RawMessage("134217728")},
			}})
		}
	}
	add := func(kind, name string, effects ...string) {
		if targeted := len(req.Targets) == 0 || slices.Contains(req.Targets, kind+"."+name); targeted && f.applied[kind+" "+name] == "" {
			plan.Changes = append(plan.Changes, protocol.PlanChange{Action: protocol.PlanCreate, Kind: kind, Name: name, Effects: effects})
		}
	}
	for _, s := range req.Fleet.Servers {
		add("server", s.Name, "full sync as soon as its agent reports")
		if s.Name == "db-1" {
			plan.Findings = append(plan.Findings, findingsOfDB)
		}
	}
	for _, w := range req.Fleet.Waves {
		add("wave", w.Name)
	}
	if len(plan.Changes) > 0 {
		plan.Effects = []string{"full sync of 1 server, whose disks are known when their agents report"}
	}
	text, _ := json.Marshal(plan.Changes)
	plan.Hash = fmt.Sprintf("%x", sha256.Sum256(append(text, fmt.Sprint(f.applied)...)))[:16]
	return plan
}

func (f *fake) apply(_ context.Context, req protocol.ApplyRequest) (protocol.Plan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	plan := f.diff(protocol.PlanRequest{Fleet: req.Fleet, Targets: req.Targets})
	if plan.Hash != req.Hash {
		return plan, &protocol.Problem{
			Code: protocol.ProblemConflict, Message: "the plan is stale: what it was made for has changed since: server web-1 was not there, is as the plan wants it",
			Hint: "nothing was applied; look at a new plan: rehost plan",
		}
	}
	for _, c := range plan.Changes {
		f.applied[c.Kind+" "+c.Name] = "there"
	}
	for _, l := range req.Fleet.Launches {
		f.applied["launch "+l.Name] = l.InstanceType
	}
	return plan, nil
}

func (f *fake) status(_ context.Context, _ protocol.StatusRequest) (protocol.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	const disk = 4 << 30
	done := min(int64(f.polls), 4) * (disk / 4)
	f.polls++
	at := epoch.Add(time.Duration(f.polls) * time.Second)
	s := protocol.ServerStatus{
		Record:      protocol.Server{Name: "web-1", Lifecycle: protocol.NotReady, Since: epoch},
		Replication: protocol.ReplicationInitialSync, LastSeen: at, Waiting: "the initial sync",
		Agent: &protocol.AgentReport{Rate: 1 << 30, Tier: "classic", TierNotes: []string{"btf: the kernel has no type information"}, Disks: []protocol.DiskReport{{SizeBytes: disk, Replicated: done, Need: disk - done}}},
	}
	if done == disk {
		s.Replication, s.Record.Lifecycle = protocol.ReplicationContinuous, protocol.ReadyForTest
		s.Waiting, s.Next = "", "rehost wave test first"
	}
	quiet := protocol.ServerStatus{
		Record: protocol.Server{
			Name: "a-server-with-a-rather-long-name-that-fills-the-screen", Lifecycle: protocol.ReadyForCutover, Since: epoch,
			Problem: &protocol.Problem{Code: protocol.ProblemVolume, Message: "volume vol-1 is gone", Hint: "run rehost job show"},
		},
		Replication: protocol.ReplicationSnapshot, LastSeen: epoch,
		Advice: []string{"/dev/sda is standard, and 20.0 MiB/s is written there: io2 would keep up"},
	}
	var waves []protocol.WaveStatus
	for _, name := range []string{"first", "partial", "failing", "slow"} {
		waves = append(waves, protocol.WaveStatus{Name: name, Servers: []string{"web-1", "web-2"}, Counts: map[protocol.Lifecycle]int{protocol.NotReady: 2}})
	}
	s.Record.Replica = "rs-1"
	s.Record.Boots = &protocol.BootCheck{
		At: epoch.Add(-time.Hour), Job: "ready-2", Step: "boot", Passed: epoch.Add(-25 * time.Hour),
		Problem: &protocol.Problem{Code: protocol.ProblemCheck, Message: "check login of i-2 cannot pass: the kernel has panicked"},
	}
	quiet.Record.Boots = &protocol.BootCheck{At: epoch.Add(-3 * time.Hour), Job: "ready-1", Point: "p-1", Taken: epoch.Add(-10 * time.Hour), Passed: epoch.Add(-3 * time.Hour)}
	s.Findings = protocol.FindingCount{Warnings: 2}
	f.advanceMove(&s)
	return protocol.Status{At: at, Servers: []protocol.ServerStatus{s, quiet}, Waves: waves, Applications: []string{"shop"}}, nil
}

func (f *fake) start(_ context.Context, req protocol.StartRequest) (protocol.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Wave == "unknown" {
		return protocol.Job{}, hint.New("no wave \"unknown\"", "see the waves with rehost wave list")
	}
	f.newest = fmt.Sprintf("job-%d", len(f.jobs)+1)
	job := &protocol.Job{ID: f.newest, Kind: req.Kind, Of: req.Selection, Status: protocol.JobPending, Created: epoch}
	if req.Rehearse {
		job.Rehearsal = &protocol.Rehearsal{Keep: req.Keep}
	}
	servers := req.Servers
	if len(servers) == 0 {
		servers = []string{"web-1", "web-2"}
	}
	for _, name := range servers {
		job.Servers = append(job.Servers, protocol.JobServer{Server: name, Status: protocol.StepNotStarted, Steps: []protocol.JobStep{
			{Name: "snapshot", Status: protocol.StepNotStarted}, {Name: "launch", Status: protocol.StepNotStarted},
		}})
	}
	f.jobs[f.newest] = job
	return *job, nil
}

func (f *fake) job(_ context.Context, req protocol.JobRequest) (protocol.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := req.ID
	if id == "" {
		id = f.newest
	}
	job := f.jobs[id]
	if job == nil {
		return protocol.Job{}, hint.New("no job "+id, "start one with rehost wave test NAME")
	}
	if job.Of.Wave != "slow" {
		f.advance(job)
	}
	return *job, nil
}

// advance starts what did not start and ends what runs.
func (f *fake) advance(job *protocol.Job) {
	job.Status = protocol.JobStarted
	open := false
	for i := range job.Servers {
		s := &job.Servers[i]
		if s.Status == protocol.StepSucceeded || s.Status == protocol.StepFailed {
			continue
		}
		open = true
		s.Status = protocol.StepSucceeded
		for j := range s.Steps {
			step := &s.Steps[j]
			if step.Status == protocol.StepSucceeded {
				continue
			}
			s.Status = protocol.StepInProgress
			f.advanceStep(job, s, step)
			break
		}
	}
	if !open {
		job.Status, job.Ended = protocol.JobCompleted, epoch.Add(90*time.Second)
		if job.Rehearsal != nil {
			rehearsed(job)
		}
	}
}

func (f *fake) advanceStep(job *protocol.Job, s *protocol.JobServer, step *protocol.JobStep) {
	if step.Status == protocol.StepNotStarted {
		step.Status, step.Attempts, step.Started = protocol.StepInProgress, 1, epoch
		return
	}
	step.Ended = epoch.Add(1500 * time.Millisecond)
	if step.Name == "launch" && (job.Of.Wave == "failing" || job.Of.Wave == "partial" && s.Server == "web-2") {
		p := &protocol.Problem{Code: protocol.ProblemLaunch, Message: "no address left in subnet-1", Hint: "name another subnet in launch.web"}
		step.Status, step.Problem, s.Status, s.Problem = protocol.StepFailed, p, protocol.StepFailed, p
		return
	}
	step.Status, step.Detail = protocol.StepSucceeded, step.Name+" of "+s.Server
	s.Data = map[string]string{"instance": "i-1", "address": "127.77.0.5"}
}

// list has the jobs that were started, newest first.
func (f *fake) list(_ context.Context, req protocol.JobsRequest) ([]protocol.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := []protocol.Job{}
	for n := len(f.jobs); n > 0 && (req.Limit == 0 || len(out) < req.Limit); n-- {
		out = append(out, *f.jobs[fmt.Sprintf("job-%d", n)])
	}
	return out, nil
}

// cancel ends a job at once; its first server was at its launch, and the others had not begun.
func (f *fake) cancel(_ context.Context, req protocol.CancelRequest) (protocol.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job := f.jobs[req.ID]
	if job == nil {
		return protocol.Job{}, hint.New(fmt.Sprintf("no job %q", req.ID), "rehost job list shows them")
	}
	if job.Status.Ended() {
		return *job, &protocol.Problem{Code: protocol.ProblemConflict, Message: "job " + job.ID + " is over: it is " + string(job.Status), Hint: "look at what it did: rehost job show " + job.ID}
	}
	job.Status, job.Ended = protocol.JobCancelled, epoch.Add(30*time.Second)
	job.Cancel = &protocol.Cancellation{At: job.Ended, Reason: req.Reason}
	for i := range job.Servers {
		job.Servers[i].Status = protocol.StepCancelled
	}
	first := job.Servers[0].Steps
	first[0] = protocol.JobStep{Name: "snapshot", Status: protocol.StepSucceeded, Attempts: 1, Started: epoch, Ended: epoch.Add(20 * time.Second)}
	first[1] = protocol.JobStep{Name: "launch", Status: protocol.StepCancelled, Attempts: 2, Started: epoch.Add(20 * time.Second), Ended: job.Ended}
	job.Log = []protocol.JobEvent{
		{At: epoch, Event: protocol.EventJobStart, Detail: "START_TEST of wave slow"},
		{At: epoch, Event: protocol.EventSnapshotStart, Server: "web-1", Attempt: 1, MaxAttempts: 5},
		{At: epoch.Add(20 * time.Second), Event: protocol.EventSnapshotEnd, Server: "web-1", Attempt: 1, MaxAttempts: 5, Took: 20 * time.Second, Detail: "snap-1"},
		{
			At: epoch.Add(25 * time.Second), Event: protocol.EventLaunchFailed, Server: "web-1", Attempt: 1, MaxAttempts: 3, Instance: "i-7", Detail: "launch",
			Error: "run an instance: VcpuLimitExceeded: the limit is 32",
		},
		{At: job.Ended, Event: protocol.EventJobCancel, Detail: req.Reason},
		{At: job.Ended, Event: protocol.EventJobCancel, Server: "web-1", Attempt: 2, Detail: "launch ended"},
		{At: job.Ended, Event: protocol.EventServerSkipped, Server: "web-2", Detail: "the job was cancelled"},
		{At: job.Ended, Event: protocol.EventJobEnd, Detail: "CANCELLED", Took: 30 * time.Second},
	}
	return *job, nil
}

// change refuses servers that are called busy, and is quick.
func (f *fake) change(_ context.Context, req protocol.ChangeRequest) ([]protocol.Changed, error) {
	servers := req.Servers
	if len(servers) == 0 {
		servers = []string{"web-1", "busy"}
	}
	var out []protocol.Changed
	for _, s := range servers {
		c := protocol.Changed{Server: s, Record: protocol.Server{Name: s, Remark: &protocol.Remark{Action: req.Action, Reason: req.Reason}}}
		if s == "busy" {
			c.Problem = &protocol.Problem{Code: protocol.ProblemConflict, Message: "busy: job test-1 works on it", Hint: "wait for it: rehost job show test-1 --follow"}
		}
		if req.Action == protocol.ActionReady && req.Reason == "" {
			c.Problem = &protocol.Problem{Code: protocol.ProblemNotAllowed, Message: s + ": no test of it has passed", Hint: "test it: rehost server test " + s}
		}
		out = append(out, c)
	}
	return out, nil
}

// point orders: the first attempts on a server called busy fail, all of those on one called hopeless.
func (f *fake) point(_ context.Context, req protocol.PointRequest) ([]protocol.Point, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	servers := []string{req.Server}
	if req.Application != "" {
		servers = []string{"db-1", "db-2"}
	}
	if req.Server == "unknown" {
		return nil, hint.New("no server \"unknown\"", "rehost status lists the servers")
	}
	var out []protocol.Point
	for _, s := range servers {
		pt := protocol.Point{ID: "p-7", Server: s, State: protocol.PointOrdered, Origin: protocol.OriginRequest, Attempt: 1, Attempts: 3, Group: req.Application}
		f.taken[s] = []protocol.Point{pt}
		out = append(out, pt)
	}
	return out, nil
}

// pin knows one point, and takes the rest for granted.
func (f *fake) pin(_ context.Context, req protocol.PinRequest) ([]protocol.Point, error) {
	if req.ID != "p-1" {
		return nil, hint.New(fmt.Sprintf("no point %q of %s", req.ID, req.Server), "look at what there is: rehost point list "+req.Server)
	}
	return []protocol.Point{{ID: req.ID, Server: req.Server, Pinned: req.Pinned, Taken: time.Now().Add(-3 * time.Hour)}}, nil
}

func (f *fake) remove(_ context.Context, req protocol.RemoveRequest) ([]protocol.Point, error) {
	return []protocol.Point{{ID: req.ID, Server: req.Server, State: protocol.PointRemoved, Taken: time.Now().Add(-3 * time.Hour)}}, nil
}

// sweep has two things, one of which cannot be removed.
func (f *fake) sweep(_ context.Context, req protocol.SweepRequest) ([]protocol.Leftover, error) {
	out := []protocol.Leftover{
		{Kind: protocol.LeftoverVolume, ID: "vol-1", Role: "clone", Server: "web-1", Job: "test-1", Created: time.Now().Add(-3 * time.Hour)},
		{Kind: protocol.LeftoverSnapshot, ID: "snap-1", Role: "point-snapshot", Server: "web-9", Created: time.Now().Add(-3 * time.Hour)},
	}
	out[0].Removed = slices.Contains(req.Remove, "vol-1")
	if slices.Contains(req.Remove, "snap-1") {
		out[1].Error = "an image uses it"
	}
	return out, nil
}

// move takes three looks; to rs-broken it comes to nothing.
func (f *fake) move(_ context.Context, req protocol.MoveRequest) (protocol.Move, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.To == "rs-9" {
		return protocol.Move{}, hint.New("no replication server \"rs-9\"", "rehost status lists them")
	}
	f.moves, f.moved = 3, req.To
	return protocol.Move{From: "rs-1", To: req.To, Ordered: epoch}, nil
}

func (f *fake) advanceMove(s *protocol.ServerStatus) {
	switch {
	case f.moves > 0:
		s.Record.Move = &protocol.Move{From: "rs-1", To: f.moved, Target: "rs-2", Ordered: epoch}
		s.Waiting = []string{"", "its move from rs-1 to rs-2, now at ATTACH_STAGING_DISKS", "its move from rs-1 to rs-2: waiting for rs-1 to give the replica up", "its move from rs-1 to rs-2: pending"}[f.moves]
		f.moves--
	case f.moved == "rs-broken":
		s.Record.Problem = &protocol.Problem{Code: protocol.ProblemReplicaUnreachable, Step: "MOVE", Message: "web-1 stays on rs-1: it did not let go", Hint: "look at its instance"}
	case f.moved != "":
		s.Record.Replica = "rs-2"
	}
}

// verify finishes at the third look; the replica of bad-1 differs.
func (f *fake) verify(_ context.Context, req protocol.VerifyRequest) (protocol.VerifyReport, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.Server == "unknown" {
		return protocol.VerifyReport{}, hint.New("no server \"unknown\"", "rehost status lists the servers")
	}
	if req.ID == "" {
		f.polls = 0
		f.compared = req.Point
		return protocol.VerifyReport{ID: "v-1", Point: req.Point}, nil
	}
	f.polls++
	r := protocol.VerifyReport{ID: "v-1", Point: f.compared, Total: 4 << 30, Done: int64(f.polls) << 30, Skipped: 1 << 30, Started: epoch}
	if f.polls == 4 {
		r.Ended = epoch.Add(9 * time.Second)
		if req.Server == "bad-1" {
			r.Differences = 3
		}
	}
	return r, nil
}

// findingsOfDB are those that matter of the server that has some.
var findingsOfDB = protocol.Preflight{Server: "db-1", Findings: []protocol.Finding{
	{Severity: protocol.SeverityCritical, Code: protocol.FindingKernelDriver, Subject: "/lib/modules/5.10.0-cloud", Message: "kernel 5.10.0-cloud, which will boot, has no ena driver", Hint: "install a kernel with NVMe and ENA drivers on the source and make it GRUB's default"},
	{Severity: protocol.SeverityWarning, Code: protocol.FindingFstabNetwork, Subject: "/nas", Message: "fstab mounts nas:/export at /nas over the network; the boot will not wait for it", Hint: "see to it that its server can be reached from the subnet"},
}}

// preflight knows one server without findings and one with some, whose second survey takes three looks.
func (f *fake) preflight(_ context.Context, req protocol.PreflightRequest) ([]protocol.Preflight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(req.Servers, "unknown") {
		return nil, hint.New("no server \"unknown\"", "rehost status lists the servers")
	}
	if req.Fresh {
		f.looks = 3
	}
	f.looks--
	all := []protocol.Preflight{
		{Server: "db-1", Pending: f.looks > 0, Surveyed: time.Now().Add(-3 * time.Hour), Findings: []protocol.Finding{
			findingsOfDB.Findings[0], findingsOfDB.Findings[1],
			{Severity: protocol.SeverityInfo, Code: protocol.FindingFstabName, Subject: "/", Message: "fstab has /dev/sda1 for /, a name that changes"},
		}},
		{Server: "web-1", Surveyed: time.Now().Add(-3 * time.Hour), Findings: []protocol.Finding{}},
	}
	if len(req.Servers) > 0 {
		all = slices.DeleteFunc(all, func(p protocol.Preflight) bool { return !slices.Contains(req.Servers, p.Server) })
	}
	return all, nil
}

// advancePoint takes the newest point of a server one stage on.
func (f *fake) advancePoint(server string) {
	all := f.taken[server]
	pt := &all[len(all)-1]
	switch {
	case pt.State == protocol.PointOrdered && (server == "busy" && pt.Attempt < 3 || server == "hopeless"):
		pt.State, pt.Passing, pt.Over = protocol.PointLost, true, time.Now()
		pt.Problem = &protocol.Problem{Code: protocol.ProblemFreeze, Message: "reading while frozen took longer than the budget", Hint: "raise the budget"}
	case pt.State == protocol.PointOrdered:
		pt.State, pt.Grade, pt.Frozen = protocol.PointComplete, protocol.GradeFilesystem, 52*time.Millisecond
	case pt.State == protocol.PointLost && pt.Attempt < pt.Attempts:
		next := protocol.Point{ID: fmt.Sprintf("p-7-%d", pt.Attempt+1), First: "p-7", Server: server, State: protocol.PointOrdered, Attempt: pt.Attempt + 1, Attempts: 3}
		f.taken[server] = append(all, next)
	}
}

func (f *fake) points(_ context.Context, req protocol.PointsRequest) ([]protocol.Point, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if all := f.taken[req.Server]; len(all) > 0 {
		f.advancePoint(req.Server)
		out := slices.Clone(f.taken[req.Server])
		slices.Reverse(out)
		return out, nil
	}
	if req.Server != "web-1" {
		return []protocol.Point{}, nil
	}
	return []protocol.Point{{
		ID: "p-1", Server: "web-1", State: "complete", Grade: protocol.GradeFilesystem, Origin: protocol.OriginSchedule,
		Taken: time.Now().Add(-3 * time.Hour), Frozen: 52 * time.Millisecond,
	}}, nil
}

func (f *fake) token(_ context.Context, req protocol.TokenRequest) (protocol.TokenReply, error) {
	return protocol.TokenReply{Token: "token-of-" + req.Name, Bus: f.bus, Expires: time.Now().Add(req.TTL)}, nil
}

func (f *fake) version(context.Context, protocol.VersionRequest) (protocol.VersionReply, error) {
	return protocol.VersionReply{Version: "1.2.3"}, nil
}

func (f *fake) runbook(_ context.Context, req protocol.RunbookRequest) (protocol.Runbook, error) {
	if req.Wave != "first" {
		return protocol.Runbook{}, hint.New(fmt.Sprintf("no wave %q in the applied configuration", req.Wave), "choose one of first")
	}
	start := epoch.Add(10 * time.Hour)
	return protocol.Runbook{
		Wave: "first", At: epoch, Start: start, End: start.Add(20 * time.Minute), Concurrency: 4, Notes: []string{"1 of 4 servers are cut over already"},
		Gates: []protocol.Gate{
			{Name: "lag", Want: "the lag of each server is at most 30s", Open: true},
			{Name: "window", Want: "the cutover fits into a window", Why: "it opens Sun 2026-03-01 22:00 UTC", Hint: "start the cutover then", Opens: start},
		},
		Steps: []protocol.RunbookStep{
			{Number: 1, What: "start the cutover: rehost wave cutover first", Who: "operator", Begin: start, End: start, Success: "a job runs", Back: "nothing has begun"},
			{Number: 2, What: "cut over db-1", After: []int{1}, Who: "rehost", Begin: start, End: start.Add(10 * time.Minute), Success: "checks pass: ssh|db", Back: "rehost server revert db-1"},
			{Number: 3, What: "cut over web-1", After: []int{1, 2}, Who: "rehost", Begin: start.Add(10 * time.Minute), End: start.Add(20 * time.Minute), Success: "its target has started", Back: "rehost server revert web-1"},
		},
		Downtimes: []protocol.Downtime{{Of: "server db-1", Time: 9 * time.Minute, Basis: "its own jobs"}, {Of: "wave first", Time: 19 * time.Minute}},
	}, nil
}

// backup is of one server that no record but its own knows of.
func (f *fake) backup(_ context.Context, req protocol.BackupRequest) (protocol.BackupPiece, error) {
	const text = `{"bucket":"rehost_servers","key":"web-1","value":{"name":"web-1","generation":"g1"}}` +
		`{"bucket":"rehost_jobs","key":"test-1","value":{"id":"test-1","status":"STARTED"}}` + `{"bucket":"rehost_enrolments","key":"t","value":{"role":"agent","name":"web-1"}}`
	cut := protocol.Cut{ID: "c", At: epoch, Format: protocol.RecordFormat, Bytes: int64(len(text)), SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text))), Records: 3}
	if req.Cut == "" {
		return protocol.BackupPiece{Cut: cut}, nil
	}
	return protocol.BackupPiece{Cut: cut, Bytes: []byte(text)[req.Offset:min(req.Offset+50, int64(len(text)))]}, nil
}
