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
	"rehost/controller/internal/wave"
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
	ConsoleOutput(ctx context.Context, id string) (string, error)
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

// Config is how patient jobs are.
type Config struct {
	Poll      time.Duration // between two looks
	Retry     time.Duration // first pause after a failed run of a step; doubled up to a minute
	AgentLost time.Duration // a silence longer than this counts as gone
}

// Runner runs jobs. At most [wave.Plan]'s concurrency of servers are worked on per job.
type Runner struct {
	cfg     Config
	store   *store.Store
	reports *observe.Reports
	cloud   Cloud
	points  *point.Points
	staging *staging.Staging
	logger  hclog.Logger
	kick    chan struct{}

	starting sync.Mutex // one job is judged and recorded at a time
}

// NewRunner makes a Runner.
func NewRunner(cfg Config, st *store.Store, reports *observe.Reports, c Cloud, points *point.Points, sg *staging.Staging, logger hclog.Logger) *Runner {
	return &Runner{cfg: cfg, store: st, reports: reports, cloud: c, points: points, staging: sg, logger: logger, kick: make(chan struct{}, 1)}
}

// Run takes up every job that is not completed, and each new one, until ctx ends. Then the
// jobs stay where they are, and the next Run goes on with them.
func (r *Runner) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	var mu sync.Mutex
	running := map[string]bool{}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		jobs, err := r.store.Jobs.List("")
		if err != nil {
			return err
		}
		for _, job := range jobs {
			mu.Lock()
			busy := running[job.ID]
			if job.Status != protocol.JobCompleted && !busy {
				running[job.ID] = true
				wg.Go(func() {
					if err := r.runJob(ctx, job.ID); err != nil && ctx.Err() == nil {
						r.logger.Error("job interrupted", "job", job.ID, "error", err)
					}
					mu.Lock()
					delete(running, job.ID)
					mu.Unlock()
				})
			}
			mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-r.kick:
		}
	}
}

// runJob takes a job to its end. An error means that records could not be written; the job is taken up again.
func (r *Runner) runJob(ctx context.Context, id string) error {
	job, err := r.store.Jobs.Update(ctx, id, func(j *protocol.Job) error {
		if j.Status == protocol.JobPending {
			j.Status = protocol.JobStarted
			j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventJobStart, Detail: string(j.Kind) + " of wave " + j.Wave})
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.logger.Info("job runs", "job", id, "kind", job.Kind, "wave", job.Wave)
	concurrency := 1
	if plan, err := wave.Of(r.store.Applied(), job.Wave); err == nil {
		concurrency = plan.Concurrency
	}
	slots := make(chan struct{}, concurrency)
	errs := make([]error, len(job.Servers))
	var wg sync.WaitGroup
	for i, s := range job.Servers {
		select { // in the wave's order: the next one starts when a slot is free
		case slots <- struct{}{}:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = r.runServer(ctx, job, s.Server)
		})
	}
	wg.Wait()
	if err := errors.Join(append(errs, context.Cause(ctx))...); err != nil {
		return err
	}
	_, err = r.store.Jobs.Update(ctx, id, func(j *protocol.Job) error {
		j.Status, j.Ended = protocol.JobCompleted, time.Now()
		j.Log = append(j.Log, protocol.JobEvent{At: j.Ended, Event: protocol.EventJobEnd})
		return nil
	})
	r.logger.Info("job completed", "job", id)
	return err
}

// runServer takes one server through a job's steps, and lets go of it in the end.
func (r *Runner) runServer(ctx context.Context, job protocol.Job, server string) error {
	w := &Work{Runner: r, job: job.ID, kind: job.Kind, server: server}
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

func ended(s protocol.StepStatus) bool {
	return s == protocol.StepSucceeded || s == protocol.StepFailed || s == protocol.StepSkipped
}

// claim makes the server this job's, or records why not.
func (w *Work) claim(ctx context.Context, job protocol.Job) (bool, error) {
	_, _, _, wanted := fleet.Settings(w.store.Applied(), w.server)
	var refusal *protocol.Problem
	_, err := w.store.Servers.Update(ctx, w.server, func(rec *protocol.Server) error {
		refusal = nil
		if rec.Job == w.job {
			return nil
		}
		if refusal = lifecycle.Refusal(*rec, w.kind, job.Force); refusal == nil {
			rec.Job, rec.JobKind = w.job, w.kind
			if w.kind == protocol.JobTest {
				rec.Tested = time.Time{}
			}
			lifecycle.Advance(rec, wanted, time.Now())
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	return refusal == nil, w.update(ctx, func(j *protocol.Job, s *protocol.JobServer) {
		if refusal != nil {
			s.Status, s.Problem = protocol.StepSkipped, refusal
			j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventServerSkipped, Server: w.server, Error: refusal.Message})
			return
		}
		s.Status = protocol.StepInProgress
	})
}

// settle lets go of the server; what the job achieved decides where the server stands now.
func (w *Work) settle(ctx context.Context) error {
	status := w.state().Status
	_, _, _, wanted := fleet.Settings(w.store.Applied(), w.server)
	_, err := w.store.Servers.Update(ctx, w.server, func(rec *protocol.Server) error {
		if rec.Job != w.job {
			return nil
		}
		if w.kind == protocol.JobTest && status == protocol.StepSucceeded {
			rec.Tested = time.Now()
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
	failed := false
	for i, s := range plans[w.kind] {
		status := w.state().Steps[i].Status
		switch {
		case status == protocol.StepFailed:
			failed = true
			continue
		case ended(status):
			continue
		case failed && s.when == onSuccess:
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
		failed = failed || !ok
	}
	return w.update(ctx, func(_ *protocol.Job, s *protocol.JobServer) {
		s.Status = protocol.StepSucceeded
		if slices.ContainsFunc(s.Steps, func(st protocol.JobStep) bool { return st.Status == protocol.StepFailed }) {
			s.Status = protocol.StepFailed
		}
	})
}

// runStep runs one step until it succeeds or has failed for good.
func (w *Work) runStep(ctx context.Context, i int, s step) (bool, error) {
	pause := w.cfg.Retry
	again := false
	for {
		if err := w.beginStep(ctx, i, s, again); err != nil {
			return false, err
		}
		limited, cancel := context.WithTimeoutCause(ctx, s.deadline, fmt.Errorf("step %s took longer than %s", s.name, s.deadline))
		err := s.run(limited, w)
		cancel()
		if ctx.Err() != nil {
			return false, context.Cause(ctx) // the step stays in progress, and is taken up again
		}
		skipped, isSkip := errors.AsType[*skip](err)
		switch {
		case err == nil:
			return true, w.endStep(ctx, i, protocol.StepSucceeded, w.state().Steps[i].Detail, nil)
		case isSkip:
			return true, w.endStep(ctx, i, protocol.StepSkipped, skipped.reason, nil)
		}
		w.logger.Warn("step failed", "job", w.job, "server", w.server, "step", s.name, "attempt", w.attempt, "error", err)
		problem := staging.ProblemOf(err, w.server, s.name)
		waits := problem.Code == protocol.ProblemCredentials // nothing is wrong with the step: no attempt is used up
		if !waits && (isFinal(err) || cloud.Permanent(err) || w.attempt >= s.attempts) {
			return false, w.endStep(ctx, i, protocol.StepFailed, "", problem)
		}
		if err := w.noteFailure(ctx, i, s, problem); err != nil {
			return false, err
		}
		if err := await.Pause(ctx, pause); err != nil {
			return false, err
		}
		pause, again = min(2*pause, time.Minute), !waits
	}
}
