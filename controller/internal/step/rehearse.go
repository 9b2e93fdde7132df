package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/store"
	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// exposed says what of a launch block's network is not sealed off in a test, or "". Whether nothing leads out of what it names for tests is the
// owner's business: nobody else can tell a rehearsed payment from a real one.
func exposed(l protocol.LaunchSettings) string {
	sealed := func(subnet, test string, groups []string) bool {
		return len(groups) > 0 || test != "" && test != subnet
	}
	if !sealed(l.Subnet, l.TestSubnet, l.TestSecurityGroups) {
		return "launch " + l.Name
	}
	for i, n := range l.Interfaces { // where it says nothing it is where the first one is
		if (n.Subnet != "" || len(n.SecurityGroups) > 0) && !sealed(n.Subnet, n.TestSubnet, n.TestSecurityGroups) {
			return fmt.Sprintf("network_interface %d of launch %s", i+1, l.Name)
		}
	}
	return ""
}

// exposedOf says it of all servers' launch blocks, each once.
func exposedOf(f protocol.Fleet, servers []string) []string {
	var out []string
	for _, name := range servers {
		_, _, launch, _ := fleet.Settings(f, name)
		if what := exposed(launch); what != "" && !slices.Contains(out, what) {
			out = append(out, what)
		}
	}
	return out
}

// unsealed refuses a rehearsal whose servers would be where the sources are, since nothing says where the sealed network is.
func unsealed(applied protocol.Fleet, plan wave.Plan, req protocol.StartRequest) *protocol.Problem {
	switch {
	case !req.Rehearse:
		return nil
	case req.Kind != protocol.JobTest || req.Wave == "":
		return &protocol.Problem{Code: protocol.ProblemInvalid, Message: "a rehearsal is a test of a wave", Hint: "rehost wave rehearse WAVE"}
	case req.Force != "":
		return nil
	}
	where := exposedOf(applied, plan.Servers)
	if len(where) == 0 {
		return nil
	}
	return &protocol.Problem{
		Code: protocol.ProblemNotAllowed, Message: "nothing says where the sealed network of a rehearsal is: " + strings.Join(where, ", "),
		Hint: "write test_subnet, another one than subnet, or test_security_groups there, and run rehost apply; or give a reason with --force",
	}
}

// allPassed says whether all servers of a server's application have done all that can fail it.
func allPassed(j *protocol.Job, server string, steps []step) bool {
	a := applicationOf(j, server)
	return a != nil && !slices.ContainsFunc(j.Servers, func(s protocol.JobServer) bool {
		return slices.Contains(a.Servers, s.Server) && slices.ContainsFunc(steps, func(st step) bool { return st.when == onSuccess && !did(st.name)(s) })
	})
}

// runLast takes all servers of the job through what is done when all have done the rest. A rehearsal's instances live until then, since those of one
// application may ask those of another.
func (l *lineup) runLast(ctx context.Context) error {
	var group errgroup.Group
	for _, s := range l.job.Servers {
		w := l.work(s.Server)
		for i, st := range w.steps {
			if st.last && !ended(w.state().Steps[i].Status) {
				group.Go(func() error { return w.runLast(ctx, i, st) })
			}
		}
	}
	return group.Wait()
}

func (w *Work) runLast(ctx context.Context, i int, s step) error {
	defer w.giveSlot()
	ok, err := w.runStep(ctx, i, s)
	if err != nil || ok {
		return err
	}
	return w.update(ctx, func(_ *protocol.Job, js *protocol.JobServer) { js.Status = outcome(js.Steps) })
}

// dismiss terminates what a rehearsal launched. What failed stays for inspection, as after any test.
func dismiss(ctx context.Context, w *Work) error {
	rec, err := w.record()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	job, err := w.store.Jobs.Get(w.job)
	switch {
	case err != nil:
		return err
	case rec.Test == nil || rec.Test.Job != w.job:
		if w.data(protocol.JobDataInstance) != "" { // a run of this step that was cut off has done it, or the clean-up
			return nil
		}
		return &skip{"there is no instance of it"}
	case job.Rehearsal.Keep:
		return &skip{"it is kept, as asked: " + rec.Test.Instance}
	case outcome(w.state().Steps) == protocol.StepFailed:
		return &skip{"left for inspection: " + rec.Test.Instance}
	}
	return w.removeTest(ctx, *rec.Test)
}

// rehearsalBook writes down how the rehearsal of a wave will go. It has no gates.
func (r *Runner) rehearsalBook(applied protocol.Fleet, name string) (protocol.Runbook, error) {
	plan, err := wave.Of(applied, name)
	if err != nil {
		return protocol.Runbook{}, err
	}
	c, err := r.circumstances(applied, plan.Servers, protocol.JobTest)
	if err != nil {
		return protocol.Runbook{}, err
	}
	c.Rehearsal, c.Steps = true, nil
	for _, s := range stepsOf(protocol.Job{Kind: protocol.JobTest, Rehearsal: &protocol.Rehearsal{}}) {
		if !s.last {
			c.Steps = append(c.Steps, s.name)
		}
	}
	return wave.Runbook(applied, name, c)
}

// afterRehearsal is what a rehearsal that has ended says of the cutover: predicted from what was measured, with the window that it must fit into.
// Nothing is said of other jobs, nor of what cannot be predicted any more, such as a wave that is no longer there.
func (r *Runner) afterRehearsal(job protocol.Job) *protocol.Rehearsal {
	if job.Rehearsal == nil {
		return nil
	}
	out := *job.Rehearsal
	book, err := r.runbook(r.store.Applied(), job.Of.Wave, job.By, answers{})
	if err != nil {
		r.logger.Warn("predict the cutover", "job", job.ID, "wave", job.Of.Wave, "error", err)
		return &out
	}
	book.Gates = slices.DeleteFunc(book.Gates, func(g protocol.Gate) bool { return g.Name != wave.WindowGate })
	out.Cutover = &book
	return &out
}
