package step

import (
	"context"
	"errors"
	"sync"
	"time"

	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// lineup takes the servers of a job to their ends, each after those that it comes after.
type lineup struct {
	*Runner
	job       protocol.Job
	cancelled context.Context //nolint:containedctx // ends when the job is cancelled, beside that of the process
	order     wave.Graph
	units     map[string]*unit // of a cutover or a rehearsal, by server
	history   wave.History     // when the job was taken up
	state     map[string]wave.Outcome
	errs      []error // of servers whose records could not be written: the job is taken up again
}

// arrival is a server at its end.
type arrival struct {
	server string
	err    error
}

// runServers takes all servers of a job to their ends. An error means that they are not there.
func (r *Runner) runServers(ctx, cancelled context.Context, job protocol.Job) error {
	ctx, end := context.WithCancel(ctx) // also of what the units are cut off by
	l := r.newLineup(ctx, cancelled, job)
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(ctx) })
	defer watching.Wait()
	defer end()
	over := make(chan arrival)
	running := 0
	begin := func(server string, run func(w *Work) error) {
		l.state[server] = wave.Running
		running++
		go func() { over <- arrival{server, run(l.work(server))} }()
	}
	for _, s := range job.Servers { // what an earlier process has begun goes on, and what it has ended is let go of
		if s.Status == protocol.StepNotStarted {
			continue
		}
		begin(s.Server, func(w *Work) error { return l.run(ctx, w, !ended(s.Status)) })
	}
	for {
		next, held := l.next(ctx)
		for _, h := range held {
			begin(h.Server, func(w *Work) error { return w.leaveOut(ctx, job, h.Why) })
		}
		for _, server := range next {
			begin(server, func(w *Work) error { return l.run(ctx, w, true) })
		}
		if running == 0 {
			if err := errors.Join(l.errs...); err != nil {
				return err
			}
			return l.runLast(ctx)
		}
		a := <-over
		running--
		if a.err != nil {
			l.errs = append(l.errs, a.err)
			end() // others may wait for it, which is not there until the job is taken up again
			continue
		}
		l.state[a.server] = l.outcome(a.server)
	}
}

func (r *Runner) newLineup(ctx, cancelled context.Context, job protocol.Job) *lineup {
	l := &lineup{Runner: r, job: job, cancelled: cancelled, state: map[string]wave.Outcome{}, order: wave.Graph{}.Only(serversOf(job), job.Concurrency)}
	if job.Kind == protocol.JobTest || job.Kind == protocol.JobCutover {
		l.order = r.orderOf(r.store.Applied(), serversOf(job), job.Concurrency).Together(units(job))
	}
	l.units = newUnits(ctx, job, l.order)
	if jobs, err := r.store.Jobs.List(""); err == nil { // without one the margin must do
		l.history = wave.NewHistory(jobs)
	}
	return l
}

func serversOf(job protocol.Job) []string {
	out := make([]string, 0, len(job.Servers))
	for _, s := range job.Servers {
		out = append(out, s.Server)
	}
	return out
}

// watch rolls back what must be, and cuts off the steps of units that are, until ctx ends.
func (l *lineup) watch(ctx context.Context) {
	ticker := time.NewTicker(l.cfg.Poll)
	defer ticker.Stop()
	cancelled := l.cancelled.Done()
	for len(l.job.Applications) > 0 {
		for _, a := range l.job.Applications {
			l.judge(ctx, l.work(a.Servers[0]))
		}
		select {
		case <-ctx.Done():
			return
		case <-cancelled:
			cancelled = nil
		case <-ticker.C:
		}
	}
}

// judge looks at one application, by the work on one of its servers.
func (l *lineup) judge(ctx context.Context, w *Work) {
	if a := w.application(); a.Outcome == "" {
		if why := l.late(a, time.Now()); why != "" {
			err := w.update(ctx, func(j *protocol.Job, _ *protocol.JobServer) { giveUp(j, w.server, why) })
			if err != nil && ctx.Err() == nil {
				l.logger.Warn("roll back", "job", l.job.ID, "application", a.String(), "error", err) // at the next look
			}
		}
	}
	w.follow()
}

// next says which servers begin now, and which never will.
func (l *lineup) next(ctx context.Context) ([]string, []wave.Held) {
	if ctx.Err() != nil || len(l.errs) > 0 {
		return nil, nil
	}
	if l.cancelled.Err() != nil {
		return nil, l.waiting("the job was cancelled")
	}
	if failed := l.failedBefore(l.job.ID); l.job.StopOnFailure && failed != "" {
		return nil, l.waiting(failed + " has failed, and nothing is begun after a failure")
	}
	return l.order.Next(l.state, nil)
}

// waiting holds all servers that have not begun, for one reason.
func (l *lineup) waiting(why string) []wave.Held {
	var out []wave.Held
	for _, n := range l.order.Nodes {
		if l.state[n.Server] == wave.Waiting {
			out = append(out, wave.Held{Server: n.Server, Why: why})
		}
	}
	return out
}

func (l *lineup) work(server string) *Work {
	w := &Work{
		Runner: l.Runner, job: l.job.ID, kind: l.job.Kind, server: server, steps: recorded(l.job, server), ready: l.job.Ready, cancelled: l.cancelled, unit: l.units[server],
		most: l.job.Concurrency,
	}
	if w.unit != nil {
		w.cancelled = w.unit.cancelled
	}
	return w
}

// run takes one server to its end, when few enough are worked on. One that waits for that is left out when the job is cancelled.
func (l *lineup) run(ctx context.Context, w *Work, slot bool) error {
	if slot && w.unit == nil { // the servers of a unit take turns, step by step
		if !w.takeSlot(l.cancelled) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return w.leaveOut(ctx, l.job, "the job was cancelled")
		}
		defer w.giveSlot() // also when it turns out not to be this job's
	}
	return w.runServer(ctx, l.job)
}

// outcome is what came of a server, for those that come after it. One that was skipped since its cutover is over already keeps nothing up.
func (l *lineup) outcome(server string) wave.Outcome {
	w := l.work(server)
	if good(w.application().Outcome) {
		return wave.Done
	}
	switch w.state().Status {
	case protocol.StepSucceeded:
		return wave.Done
	case protocol.StepSkipped:
		if l.over(server) {
			return wave.Done
		}
		return wave.LeftOut
	case protocol.StepCancelled:
		return wave.LeftOut
	case protocol.StepFailed, protocol.StepNotStarted, protocol.StepInProgress:
	}
	return wave.Failed
}

// over says whether a server is cut over, and no job works on it.
func (r *Runner) over(server string) bool {
	rec, err := r.store.Servers.Get(server)
	return err == nil && rec.Cutover != nil && rec.Job == ""
}

// orderOf is the order of servers that are launched.
func (r *Runner) orderOf(applied protocol.Fleet, servers []string, atOnce int) wave.Graph {
	g, err := wave.NewGraph(applied)
	if err != nil {
		g = wave.Graph{}
	}
	return g.Only(servers, atOnce)
}
