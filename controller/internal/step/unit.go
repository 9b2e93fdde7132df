package step

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/await"
	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// unit is what a cutover or a rehearsal does as one: the servers of an application, or one that is in none. Its servers wait for each other before the
// fence, the point, the launches and the commit; what is decided of it is in the job's record, once and for all of them.
type unit struct {
	servers []string
	launch  map[string][]string // by server: those that are checked before it is launched
	// cancelled ends when the unit is rolled back, and with the process.
	cancelled context.Context //nolint:containedctx // beside that of the process
	cut       context.CancelCauseFunc
}

// newUnits makes the units of a job, by server. Of a job that is neither a cutover nor a rehearsal there are none.
func newUnits(ctx context.Context, job protocol.Job, order wave.Graph) map[string]*unit {
	out := map[string]*unit{}
	for _, a := range job.Applications {
		u := &unit{servers: a.Servers, launch: map[string][]string{}}
		u.cancelled, u.cut = context.WithCancelCause(ctx)
		for _, s := range a.Servers {
			out[s] = u
		}
	}
	for _, n := range order.Nodes {
		if u := out[n.Server]; u != nil {
			u.launch[n.Server] = n.Launch
		}
	}
	return out
}

// applications are the units of a new job's record.
func applications(order wave.Graph, over func(server string) bool) []protocol.JobApplication {
	var out []protocol.JobApplication
	for _, u := range order.Units(over) {
		out = append(out, protocol.JobApplication{Name: u.Application, Servers: u.Servers})
	}
	return out
}

// units are those of a job's record.
func units(job protocol.Job) []wave.Unit {
	var out []wave.Unit
	for _, a := range job.Applications {
		out = append(out, wave.Unit{Application: a.Name, Servers: a.Servers})
	}
	return out
}

// applicationOf is the part of a job's record that a server belongs to, or nil.
func applicationOf(j *protocol.Job, server string) *protocol.JobApplication {
	i := slices.IndexFunc(j.Applications, func(a protocol.JobApplication) bool { return slices.Contains(a.Servers, server) })
	if i < 0 {
		return nil
	}
	return &j.Applications[i]
}

// decide records what becomes of a server's application, unless that is decided already. In a rehearsal nothing is rolled back: it has failed.
func decide(j *protocol.Job, server string, o protocol.Outcome, why string) {
	a := applicationOf(j, server)
	if a == nil || a.Outcome != "" {
		return
	}
	if j.Rehearsal != nil && o == protocol.OutcomeRolledBack {
		o = protocol.OutcomeFailed
	}
	a.Outcome, a.Decided, a.Why = o, time.Now(), why
	event := protocol.EventCommit
	switch o {
	case protocol.OutcomeCommitted:
	case protocol.OutcomeRolledBack:
		event = protocol.EventRollback
	case protocol.OutcomePassed:
		event = protocol.EventPass
	case protocol.OutcomeFailed:
		event = protocol.EventFail
	case protocol.OutcomeLeftOut:
		return // each of its servers says so
	}
	j.Log = append(j.Log, protocol.JobEvent{At: a.Decided, Event: event, Application: a.String(), Detail: why})
}

// giveUp decides that an application is not committed: it is rolled back when something of it has begun.
func giveUp(j *protocol.Job, server, why string) {
	a := applicationOf(j, server)
	if a == nil {
		return
	}
	begun := slices.ContainsFunc(j.Servers, func(s protocol.JobServer) bool {
		return slices.Contains(a.Servers, s.Server) && s.Status == protocol.StepInProgress
	})
	if begun {
		decide(j, server, protocol.OutcomeRolledBack, why)
	} else {
		decide(j, server, protocol.OutcomeLeftOut, why)
	}
}

// good says whether what comes after an application may begin.
func good(o protocol.Outcome) bool {
	return o == protocol.OutcomeCommitted || o == protocol.OutcomePassed
}

// lost says whether an application that was begun must not go on.
func lost(o protocol.Outcome) bool {
	return o == protocol.OutcomeRolledBack || o == protocol.OutcomeFailed
}

// application returns what the record says of the server's application; in jobs without any nothing.
func (w *Work) application() protocol.JobApplication {
	job, err := w.store.Jobs.Get(w.job)
	if err != nil {
		return protocol.JobApplication{}
	}
	if a := applicationOf(&job, w.server); a != nil {
		return *a
	}
	return protocol.JobApplication{}
}

// follow cuts off the steps of all servers of an application that is not to be committed any more.
func (w *Work) follow() {
	if o := w.application().Outcome; w.unit != nil && o != "" && !good(o) {
		w.unit.cut(errCancelled)
	}
}

// meet waits until what is said of a server holds of all of these.
func (w *Work) meet(ctx context.Context, servers []string, holds func(protocol.JobServer) bool) error {
	return await.Until(ctx, w.cfg.Poll, func() (bool, error) {
		job, err := w.store.Jobs.Get(w.job)
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(job.Servers, func(s protocol.JobServer) bool { return slices.Contains(servers, s.Server) && !holds(s) }), nil
	})
}

// allBegun waits until each server of the application is this job's, so that none is fenced in vain.
func allBegun(ctx context.Context, w *Work) error {
	return w.meet(ctx, w.unit.servers, func(s protocol.JobServer) bool { return s.Status != protocol.StepNotStarted })
}

// past waits until all servers of the application have done a step.
func past(step string) func(ctx context.Context, w *Work) error {
	return func(ctx context.Context, w *Work) error { return w.meet(ctx, w.unit.servers, did(step)) }
}

// launchedBefore waits until those that the server comes after in its application are checked.
func launchedBefore(ctx context.Context, w *Work) error {
	return w.meet(ctx, w.unit.launch[w.server], did(protocol.JobStepCheck))
}

func did(step string) func(protocol.JobServer) bool {
	return func(s protocol.JobServer) bool {
		return slices.ContainsFunc(s.Steps, func(st protocol.JobStep) bool {
			return st.Name == step && (st.Status == protocol.StepSucceeded || st.Status == protocol.StepSkipped)
		})
	}
}

// commit decides that the targets of the application take over. From then on nothing rolls it back by itself.
func commit(ctx context.Context, w *Work) error {
	err := w.update(ctx, func(j *protocol.Job, _ *protocol.JobServer) { decide(j, w.server, protocol.OutcomeCommitted, "") })
	if err != nil {
		return err
	}
	a := w.application()
	if a.Outcome != protocol.OutcomeCommitted {
		w.follow()
		return fmt.Errorf("%s was rolled back: %s", a, a.Why)
	}
	w.progress(ctx)(a.String())
	return nil
}

// enter waits until a step may begin: for the other servers of the application, and for a place to work. Who waits for others takes none.
func (w *Work) enter(ctx context.Context, s step) error {
	if w.unit == nil {
		return nil
	}
	if w.cuttable(s) {
		ctx = w.cancelled // ends with ctx too
	}
	if s.light || s.awaits != nil {
		w.giveSlot()
	}
	if s.awaits != nil {
		if err := s.awaits(ctx, w); err != nil {
			return err
		}
		w.follow() // what was waited for may be that it is over
	}
	if !s.light && !w.takeSlot(ctx) {
		return context.Cause(ctx)
	}
	return nil
}
