package step

import (
	"context"
	"errors"

	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// lineup takes the servers of a job to their ends, each after those that it comes after.
type lineup struct {
	*Runner
	job       protocol.Job
	cancelled context.Context //nolint:containedctx // ends when the job is cancelled, beside that of the process
	order     wave.Graph
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
	l := &lineup{Runner: r, job: job, cancelled: cancelled, order: r.orderOf(job), state: map[string]wave.Outcome{}}
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
			return errors.Join(l.errs...)
		}
		a := <-over
		running--
		if a.err != nil {
			l.errs = append(l.errs, a.err)
			continue
		}
		l.state[a.server] = l.outcome(a.server)
	}
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
	return &Work{Runner: l.Runner, job: l.job.ID, kind: l.job.Kind, server: server, cancelled: l.cancelled}
}

// run takes one server to its end, when all jobs together work on few enough. One that waits for that is left out when the job is cancelled.
func (l *lineup) run(ctx context.Context, w *Work, slot bool) error {
	if slot {
		if !l.takeSlot(l.cancelled) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return w.leaveOut(ctx, l.job, "the job was cancelled")
		}
		defer l.giveSlot()
	}
	return w.runServer(ctx, l.job)
}

// outcome is what came of a server, for those that come after it. One that was skipped since its cutover is over already keeps nothing up.
func (l *lineup) outcome(server string) wave.Outcome {
	switch l.work(server).state().Status {
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

// orderOf is the order of a job's servers. Only what launches them has one beside the job's own.
func (r *Runner) orderOf(job protocol.Job) wave.Graph {
	servers := make([]string, 0, len(job.Servers))
	for _, s := range job.Servers {
		servers = append(servers, s.Server)
	}
	if job.Kind == protocol.JobTest || job.Kind == protocol.JobCutover {
		if g, err := wave.NewGraph(r.store.Applied()); err == nil {
			return g.Only(servers, job.Concurrency)
		}
	}
	return wave.Graph{}.Only(servers, job.Concurrency)
}
