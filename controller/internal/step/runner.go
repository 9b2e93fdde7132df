package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/controller/internal/await"
	"rehost/controller/internal/fleet"
	"rehost/controller/internal/lifecycle"
	"rehost/controller/internal/observe"
	"rehost/controller/internal/point"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/store"
	"rehost/controller/internal/target"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// Cloud is what steps need of the cloud.
type Cloud interface {
	FindImage(ctx context.Context, nameOrID string) (cloud.Image, error)
	Images(ctx context.Context, tags cloud.Tags) ([]cloud.Image, error)
	RegisterImage(ctx context.Context, spec cloud.ImageSpec, progress cloud.Progress) (cloud.Image, error)
	DeregisterImage(ctx context.Context, id string) error
	EnsureSecurityGroup(ctx context.Context, spec cloud.GroupSpec) (string, error)
	ZoneOf(ctx context.Context, subnet string) (string, error)
	RunInstance(ctx context.Context, spec cloud.InstanceSpec) (cloud.Instance, error)
	Instance(ctx context.Context, id string) (cloud.Instance, error)
	Instances(ctx context.Context, tags cloud.Tags) ([]cloud.Instance, error)
	StopInstance(ctx context.Context, id string, progress cloud.Progress) (cloud.Instance, error)
	WaitInstance(ctx context.Context, id, state string, progress cloud.Progress) (cloud.Instance, error)
	TerminateInstance(ctx context.Context, id string, progress cloud.Progress) error
	target.Cloud
	Screenshot(ctx context.Context, id string) ([]byte, error)
	CreateVolume(ctx context.Context, spec cloud.VolumeSpec) (cloud.Volume, error)
	WaitVolume(ctx context.Context, id string, progress cloud.Progress) (cloud.Volume, error)
	AttachVolume(ctx context.Context, volume, instance string, progress cloud.Progress) error
	Volumes(ctx context.Context, tags cloud.Tags) ([]cloud.Volume, error)
	DeleteVolume(ctx context.Context, id string) error
	SnapshotVolume(ctx context.Context, volume string, tags cloud.Tags) (cloud.Snapshot, error)
	Snapshots(ctx context.Context, tags cloud.Tags) ([]cloud.Snapshot, error)
	WaitSnapshots(ctx context.Context, ids []string, progress cloud.Progress) error
	DeleteSnapshot(ctx context.Context, id string) error
}

// Account says what the cloud does not allow or have room for, of what a configuration needs.
type Account interface {
	Findings(ctx context.Context, f protocol.Fleet) []protocol.Finding
	// Quotas are those of the findings that are about quotas.
	Quotas(ctx context.Context, f protocol.Fleet) []protocol.Finding
}

// Config is how patient jobs are, and how many servers are worked on.
type Config struct {
	Poll      time.Duration // between two looks
	Retry     time.Duration // first pause after a failed run of a step; doubled up to a minute
	AgentLost time.Duration // a silence longer than this counts as gone
	Fence     time.Duration // how long an agent may take to say that its fence is as ordered
	Servers   int           // worked on at once, by all jobs together
	Ready     time.Duration // between two looks at which servers are to be booted
	Booted    int           // servers of which it is found out at once whether they boot
	WayBack   time.Duration // margin before a deadline in which the sources of what is not committed are released
	// GateCommands is the folder of the programs that gates may run; empty: none.
	GateCommands string
}

// Runner runs jobs. Of each at most its concurrency of servers are worked on, of a site as many as it may have, and of all together at most [Config.Servers].
type Runner struct {
	cfg     Config
	store   *store.Store
	reports *observe.Reports
	cloud   Cloud
	account Account
	points  *point.Points
	staging *staging.Staging
	logger  hclog.Logger
	kick    chan struct{}
	slots   *slots
	quota   quota

	starting sync.Mutex // one job is judged and recorded at a time

	mu      sync.Mutex                         // guards the field beneath
	cancels map[string]context.CancelCauseFunc // by the job that runs
}

// NewRunner makes a Runner.
func NewRunner(cfg Config, st *store.Store, reports *observe.Reports, c Cloud, account Account, points *point.Points, sg *staging.Staging, logger hclog.Logger) *Runner {
	return &Runner{
		cfg: cfg, store: st, reports: reports, cloud: c, account: account, points: points, staging: sg, logger: logger, kick: make(chan struct{}, 1),
		slots: newSlots(), cancels: map[string]context.CancelCauseFunc{},
	}
}

// Run takes up every job that has not ended, and each new one, until ctx ends. Then the
// jobs stay where they are, and the next Run goes on with them.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.keepReady(ctx) })
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		jobs, err := r.store.Jobs.List("")
		if err != nil {
			return err
		}
		for _, job := range jobs {
			cancelled, ok := r.begin(ctx, job)
			if !ok {
				continue
			}
			wg.Go(func() {
				defer r.end(job.ID)
				if err := r.runJob(ctx, cancelled, job.ID); err != nil && ctx.Err() == nil {
					r.logger.Error("job interrupted", "job", job.ID, "error", err)
				}
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-r.kick:
		}
	}
}

// wake makes [Runner.Run] look for jobs now.
func (r *Runner) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// begin claims a job that is to be run and does not run yet. The context that it returns ends when the job is cancelled, or with ctx.
func (r *Runner) begin(ctx context.Context, job protocol.Job) (context.Context, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, runs := r.cancels[job.ID]; runs || job.Status.Ended() {
		return nil, false
	}
	cancelled, cancel := context.WithCancelCause(ctx)
	r.cancels[job.ID] = cancel
	return cancelled, true
}

func (r *Runner) end(job string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancels[job](nil)
	delete(r.cancels, job)
}

// runJob takes a job to its end. An error means that records could not be written; the job is taken up again.
func (r *Runner) runJob(ctx, cancelled context.Context, id string) error {
	job, err := r.store.Jobs.Update(ctx, id, func(j *protocol.Job) error {
		if j.Status == protocol.JobPending {
			j.Status = protocol.JobStarted
			j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventJobStart, Detail: string(j.Kind) + " of " + j.Of.String() + until(*j)})
		}
		return nil
	})
	if err != nil || job.Status.Ended() { // it was listed before it ended
		return err
	}
	if job.Cancel != nil {
		r.cut(id) // by an earlier process, or before the job ran
	}
	r.logger.Info("job runs", "job", id, "kind", job.Kind, "of", job.Of.String())
	if err := errors.Join(r.runServers(ctx, cancelled, job), context.Cause(ctx)); err != nil {
		return err
	}
	rehearsal := r.afterRehearsal(job)
	job, err = r.store.Jobs.Update(ctx, id, func(j *protocol.Job) error {
		j.Rehearsal, j.Status, j.Ended = rehearsal, protocol.JobCompleted, time.Now()
		if j.Cancel != nil && slices.ContainsFunc(j.Servers, func(s protocol.JobServer) bool { return s.Status == protocol.StepCancelled }) {
			j.Status = protocol.JobCancelled
		}
		j.Log = append(j.Log, protocol.JobEvent{At: j.Ended, Event: protocol.EventJobEnd, Detail: string(j.Status), Took: j.Ended.Sub(j.Created)})
		return nil
	})
	r.logger.Info("job ended", "job", id, "status", job.Status)
	return err
}

func until(j protocol.Job) string {
	switch {
	case j.Rehearsal != nil:
		return ", a rehearsal"
	case j.Ready:
		return ", to see whether a copy boots"
	case j.Deadline.IsZero():
		return ""
	}
	return ", until " + j.Deadline.Format(time.RFC3339)
}

// failedBefore names a server of the job that has failed, or "".
func (r *Runner) failedBefore(id string) string {
	job, err := r.store.Jobs.Get(id)
	if err != nil {
		return ""
	}
	for _, s := range job.Servers {
		if s.Status == protocol.StepFailed {
			return s.Server
		}
	}
	return ""
}

// runServer takes the server through the job's steps, and lets go of it in the end.
func (w *Work) runServer(ctx context.Context, job protocol.Job) error {
	if !ended(w.state().Status) {
		claimed, err := w.claim(ctx, job)
		if err != nil {
			return err
		}
		if claimed {
			if err := w.runSteps(ctx); err != nil {
				return err
			}
		}
	}
	return w.settle(ctx)
}

// leaveOut ends a server that the job has not begun. One that was begun when another process ran the job goes on.
func (w *Work) leaveOut(ctx context.Context, job protocol.Job, why string) error {
	if status := w.state().Status; status == protocol.StepInProgress || ended(status) {
		return w.runServer(ctx, job)
	}
	err := w.update(ctx, func(j *protocol.Job, s *protocol.JobServer) {
		w.skip(j, s, why)
		giveUp(j, w.server, w.server+" was left out: "+why)
	})
	if err != nil {
		return err
	}
	w.follow()
	return w.settle(ctx)
}

func (w *Work) skip(j *protocol.Job, s *protocol.JobServer, why string) {
	s.Status = protocol.StepCancelled
	j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventServerSkipped, Server: w.server, Detail: why})
}

func ended(s protocol.StepStatus) bool {
	return s == protocol.StepSucceeded || s == protocol.StepFailed || s == protocol.StepSkipped || s == protocol.StepCancelled
}

// claim makes the server this job's, or records why not.
func (w *Work) claim(ctx context.Context, job protocol.Job) (bool, error) {
	if w.ready {
		return w.mayBoot(ctx)
	}
	_, _, _, wanted := fleet.Settings(w.store.Applied(), w.server)
	var refusal *protocol.Problem
	_, err := w.store.Servers.Update(ctx, w.server, func(rec *protocol.Server) error {
		refusal = nil
		if rec.Job == w.job {
			return nil
		}
		if refusal = lifecycle.Refusal(*rec, protocol.Action(w.kind), job.Force); refusal == nil {
			rec.Job, rec.JobKind = w.job, w.kind
			lifecycle.Advance(rec, wanted, time.Now())
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	over := w.over(w.server) // then nothing is lacking
	claimed := false
	defer w.follow()
	err = w.update(ctx, func(j *protocol.Job, s *protocol.JobServer) {
		claimed = false
		a := applicationOf(j, w.server)
		switch {
		case refusal != nil:
			s.Status, s.Problem = protocol.StepSkipped, refusal
			j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventServerSkipped, Server: w.server, Error: refusal.Message})
			if !over {
				giveUp(j, w.server, w.server+" was refused: "+refusal.Message)
			}
		case a != nil && a.Outcome != "" && s.Status == protocol.StepNotStarted: // meanwhile
			w.skip(j, s, a.Why)
		default:
			s.Status, claimed = protocol.StepInProgress, true
		}
	})
	return claimed, err
}

// settle lets go of the server; what the job achieved decides where the server stands now. A test that was cancelled says nothing.
func (w *Work) settle(ctx context.Context) error {
	if w.ready {
		return w.answer(ctx)
	}
	status := w.state().Status
	_, _, _, wanted := fleet.Settings(w.store.Applied(), w.server)
	committed := w.application().Outcome == protocol.OutcomeCommitted
	target, err := w.launched()
	if committed && err != nil {
		return err
	}
	_, err = w.store.Servers.Update(ctx, w.server, func(rec *protocol.Server) error {
		if rec.Job != w.job {
			return nil
		}
		switch {
		case committed:
			rec.Cutover = &target
		case w.kind == protocol.JobTest && status == protocol.StepSucceeded:
			rec.Tested = time.Now()
		case w.kind == protocol.JobTest && status == protocol.StepFailed:
			rec.Tested = time.Time{}
		}
		rec.Job, rec.JobKind = "", ""
		lifecycle.Advance(rec, wanted, time.Now())
		w.logger.Info("server done", "job", w.job, "server", w.server, "status", status, "state", rec.Lifecycle)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// runSteps takes the server from the first step that has not ended to the last.
func (w *Work) runSteps(ctx context.Context) error {
	defer w.giveSlot()
	bad := false // a step of this server has failed or was cut off
	for i, s := range w.steps {
		status := w.state().Steps[i].Status
		failed := bad
		if w.unit != nil { // one for all
			failed = lost(w.application().Outcome)
		}
		switch {
		case s.last:
			continue
		case status == protocol.StepFailed || status == protocol.StepCancelled:
			bad = true
			continue
		case ended(status):
			continue
		case failed && bad && s.when == onSuccess:
			continue
		case failed && s.when == onSuccess:
			bad = true
			if err := w.endStep(ctx, i, protocol.StepCancelled, "", nil); err != nil {
				return err
			}
			continue
		case !failed && s.when == onFailure:
			if err := w.endStep(ctx, i, protocol.StepSkipped, "not needed", nil); err != nil {
				return err
			}
			continue
		}
		ok, err := w.runStep(ctx, i, s)
		if err != nil {
			return err
		}
		bad = bad || !ok
	}
	return w.update(ctx, func(_ *protocol.Job, s *protocol.JobServer) { s.Status = outcome(s.Steps) })
}

// outcome is a server's, by its steps.
func outcome(steps []protocol.JobStep) protocol.StepStatus {
	for _, bad := range []protocol.StepStatus{protocol.StepFailed, protocol.StepCancelled} {
		if slices.ContainsFunc(steps, func(s protocol.JobStep) bool { return s.Status == bad }) {
			return bad
		}
	}
	return protocol.StepSucceeded
}

// runStep runs one step until it succeeds, has failed for good, or is cut off because the job was cancelled.
func (w *Work) runStep(ctx context.Context, i int, s step) (bool, error) {
	pause := w.cfg.Retry
	again := false
	if err := w.enter(ctx, s); err != nil && !w.cutOff(s) {
		return false, err
	}
	for {
		if w.cutOff(s) {
			return false, w.endStep(ctx, i, protocol.StepCancelled, "", nil)
		}
		if err := w.beginStep(ctx, i, s, again); err != nil {
			return false, err
		}
		err := w.runOnce(ctx, s)
		if ctx.Err() != nil {
			return false, context.Cause(ctx) // the step stays in progress, and is taken up again
		}
		skipped, isSkip := errors.AsType[*skip](err)
		switch {
		case err == nil:
			return true, w.endStep(ctx, i, protocol.StepSucceeded, w.state().Steps[i].Detail, nil)
		case isSkip:
			return true, w.endStep(ctx, i, protocol.StepSkipped, skipped.reason, nil)
		case w.cutOff(s):
			continue // to its end
		}
		w.logger.Warn("step failed", "job", w.job, "server", w.server, "step", s.name, "attempt", w.attempt, "error", err)
		problem := staging.ProblemOf(err, w.server, s.name)
		// Nothing is wrong with the step then: no attempt is used up.
		waits := problem.Code == protocol.ProblemCredentials || (cloud.Quota(err) && w.quota.mayPass())
		if !waits && (isFinal(err) || cloud.Permanent(err) || w.attempt >= s.attempts) {
			return false, w.endStep(ctx, i, protocol.StepFailed, "", problem)
		}
		if err := w.noteFailure(ctx, i, s, problem, waits); err != nil {
			return false, err
		}
		if err := w.rest(ctx, s, pause, cloud.Quota(err)); err != nil {
			return false, err
		}
		pause, again = min(2*pause, time.Minute), !waits
	}
}

// runOnce runs a step for its deadline at most, and until the job is cancelled if that may cut it off.
func (w *Work) runOnce(ctx context.Context, s step) error {
	if w.cuttable(s) {
		ctx = w.cancelled // ends with ctx too
	}
	deadline := s.deadline
	if s.longer != nil {
		deadline += s.longer(w)
	}
	limited, cancel := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("step %s took longer than %s", s.name, deadline))
	defer cancel()
	return s.run(limited, w)
}

// rest waits between two runs of a step.
func (w *Work) rest(ctx context.Context, s step, pause time.Duration, quota bool) error {
	until := ctx
	if w.cuttable(s) {
		until = w.cancelled
	}
	if quota {
		pause = min(pause, quotaPause)
		w.quota.end()
		defer w.quota.begin()
	}
	if err := await.Pause(until, pause); ctx.Err() != nil {
		return err
	}
	return nil
}
