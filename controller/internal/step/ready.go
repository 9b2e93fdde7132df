package step

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/lifecycle"
	"rehost/controller/internal/preflight"
	"rehost/controller/internal/store"
	"rehost/internal/progress"
	"rehost/protocol"
)

const (
	// bootTime is how long a copy may take to its login: an emulated machine and one whose SELinux labels are made anew take minutes.
	bootTime = 10 * time.Minute
	// sooner is how many times sooner it is asked again after a copy that did not boot, of which nobody could find out, or when somebody cancelled that.
	sooner = 4
	// itself is who starts jobs that no operator asked for.
	itself = "rehost"
)

// loginCheck is passed by what has booted: the conversion sees to it that the serial console has a login.
var loginCheck = protocol.CheckSettings{Name: "login", Kind: protocol.CheckConsole, Contains: "login:", Timeout: bootTime}

// bootable is a server of which it is to be known whether a copy boots.
type bootable struct {
	server string
	every  time.Duration
	last   *protocol.BootCheck
	cut    time.Time // when the newest job that was to find it out was cancelled
}

// wanted is when it is to be found out again; zero: nobody knows it yet.
func (b bootable) wanted() time.Time {
	var out time.Time
	switch {
	case b.last == nil:
	case b.last.Problem != nil:
		out = b.last.At.Add(b.every / sooner)
	default:
		out = b.last.At.Add(b.every)
	}
	if again := b.cut.Add(b.every / sooner); !b.cut.IsZero() && again.After(out) {
		return again
	}
	return out
}

// due are the servers whose turn it is, those first that have waited longest; at most so many.
func due(all []bootable, most int, now time.Time) []bootable {
	all = slices.DeleteFunc(slices.Clone(all), func(b bootable) bool { return b.wanted().After(now) })
	slices.SortStableFunc(all, func(a, b bootable) int { return a.wanted().Compare(b.wanted()) })
	return all[:min(len(all), max(0, most))]
}

// keepReady starts jobs that find out whether servers would boot, until ctx ends.
func (r *Runner) keepReady(ctx context.Context) {
	ticker := time.NewTicker(cmp.Or(r.cfg.Ready, time.Minute))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := r.bootNext(ctx); err != nil && ctx.Err() == nil {
			r.logger.Warn("find out whether servers boot", "error", err)
		}
	}
}

// bootNext starts what is due.
func (r *Runner) bootNext(ctx context.Context) error {
	applied := r.store.Applied()
	if !slices.ContainsFunc(applied.Launches, func(l protocol.LaunchSettings) bool { return l.Ready > 0 }) {
		return nil
	}
	r.starting.Lock()
	defer r.starting.Unlock()
	jobs, err := r.store.Jobs.List("")
	if err != nil {
		return err
	}
	busy, most := r.busy(jobs)
	if most <= 0 || r.slots.inUse(allJobs) >= r.atOnce() { // operators' jobs need the room
		return nil
	}
	var all []bootable
	settings := fleet.Lookup(applied)
	for _, s := range applied.Servers {
		_, replication, launch, _ := settings(s.Name)
		if launch.Ready == 0 || busy[s.Name] || exposed(launch) != "" {
			continue
		}
		if rec, err := r.store.Servers.Get(s.Name); err == nil && r.copyable(rec, replication, launch) {
			all = append(all, bootable{s.Name, launch.Ready, rec.Boots, cutOf(jobs, s.Name)})
		}
	}
	for _, b := range due(all, most, time.Now()) {
		if err := r.startBoot(ctx, b, applied, jobs); err != nil {
			return err
		}
	}
	return nil
}

// cutOf is when the job that was to find out whether a server boots was cancelled, of which there is one at most; zero: it was not.
func cutOf(jobs []protocol.Job, server string) time.Time {
	for _, j := range jobs {
		if j.Ready && j.Cancel != nil && j.Servers[0].Server == server {
			return j.Cancel.At
		}
	}
	return time.Time{}
}

// busy are the servers of jobs that have not ended; most is how many copies may be booted beside those that are.
func (r *Runner) busy(jobs []protocol.Job) (busy map[string]bool, most int) {
	busy, most = map[string]bool{}, r.cfg.Booted
	for _, j := range jobs {
		if j.Status.Ended() {
			continue
		}
		if j.Ready {
			most--
		}
		for _, s := range j.Servers {
			busy[s.Server] = true
		}
	}
	return busy, most
}

// copyable says whether a point of the server can be taken now, and nobody has said that its conversion would fail.
func (r *Runner) copyable(rec protocol.Server, replication protocol.ReplicationSettings, launch protocol.LaunchSettings) bool {
	report, at, known := r.reports.Agent(rec.Name)
	return known && time.Since(at) < r.cfg.AgentLost && report.Replication == protocol.ReplicationContinuous && report.Generation == rec.Generation &&
		rec.Move == nil && rec.Replacing == "" && lifecycle.Refusal(rec, protocol.ActionTest, "") == nil &&
		preflight.Blocks(preflight.Server(rec.Name, report, known, preflight.SurveyOrder(rec.Survey, launch), replication)) == nil
}

// startBoot records a job for one server. The one before it is forgotten: of a thousand servers there would be a thousand a day.
func (r *Runner) startBoot(ctx context.Context, b bootable, applied protocol.Fleet, jobs []protocol.Job) error {
	for _, old := range jobs {
		if old.Ready && old.Status.Ended() && old.Servers[0].Server == b.server {
			if err := r.store.Jobs.Delete(ctx, old.ID, nil); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
	job := protocol.Job{
		ID: newID("ready-"), Kind: protocol.JobTest, Ready: true, Of: protocol.Selection{Servers: []string{b.server}}, Status: protocol.JobPending, Created: time.Now(), Concurrency: 1,
	}
	job.Servers = []protocol.JobServer{{Server: b.server, Status: protocol.StepNotStarted, Data: map[string]string{}, Steps: notStarted(stepsOf(job))}}
	if err := r.document(ctx, &job, applied, answers{}); err != nil {
		return err
	}
	job.By, job.Reason = itself, "its launch block wants to know every "+progress.Short(b.every)+" whether it boots"
	if err := r.store.Jobs.Create(ctx, job.ID, job); err != nil {
		return err
	}
	r.wake()
	return nil
}

// yield ends what only finds out whether servers boot, for a job that somebody wants. They do not wait for each other: what each makes is its own.
func (r *Runner) yield(ctx context.Context, servers []string, to string) error {
	jobs, err := r.store.Jobs.List("")
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if !j.Ready || j.Status.Ended() || j.Cancel != nil || !slices.Contains(servers, j.Servers[0].Server) {
			continue
		}
		if _, err := r.Cancel(ctx, protocol.CancelRequest{ID: j.ID, Reason: "it gives way to job " + to}); err != nil {
			if p, ok := errors.AsType[*protocol.Problem](err); !ok || p.Code != protocol.ProblemConflict { // meanwhile it has ended
				return err
			}
		}
	}
	return nil
}

// mayBoot begins the server without holding it: whoever wants something of it shall not have to wait.
func (w *Work) mayBoot(ctx context.Context) (bool, error) {
	if w.state().Status == protocol.StepInProgress { // an earlier process has begun it
		return true, nil
	}
	rec, err := w.record()
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	refusal := lifecycle.Refusal(rec, protocol.ActionTest, "")
	return refusal == nil, w.update(ctx, func(j *protocol.Job, s *protocol.JobServer) {
		if s.Status = protocol.StepInProgress; refusal != nil {
			s.Status, s.Problem = protocol.StepSkipped, refusal
			j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: protocol.EventServerSkipped, Server: w.server, Error: refusal.Message})
		}
	})
}

// boot waits for the login of the copy.
func boot(ctx context.Context, w *Work) error {
	w.progress(ctx)("until it asks for a login at its console")
	err := w.runCheck(ctx, loginCheck)
	if err != nil {
		w.keepScreenshot(ctx) // nobody can look at the instance later
	}
	return err
}

// answer records what was found out. A job that was ended before says nothing.
func (w *Work) answer(ctx context.Context) error {
	state := w.state()
	if state.Status != protocol.StepSucceeded && state.Status != protocol.StepFailed {
		return nil
	}
	found := protocol.BootCheck{At: time.Now(), Job: w.job, Point: state.Data[protocol.JobDataPoint]}
	if pt, err := w.points.Get(w.server, found.Point); err == nil {
		found.Taken = pt.Taken
	}
	if did(protocol.JobStepBoot)(state) { // whatever became of what comes after it
		found.Passed = found.At
	} else {
		i := slices.IndexFunc(state.Steps, func(st protocol.JobStep) bool { return st.Status == protocol.StepFailed })
		found.Problem, found.Step = state.Steps[i].Problem, state.Steps[i].Name
	}
	_, err := w.store.Servers.Update(ctx, w.server, func(rec *protocol.Server) error {
		if rec.Boots != nil && rec.Boots.Job == w.job { // an earlier process has recorded it
			return nil
		}
		if found.Passed.IsZero() && rec.Boots != nil {
			found.Passed = rec.Boots.Passed
		}
		rec.Boots = &found
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// readyExposed names the launch blocks of servers that are to be booted, and whose tests are not in a network of their own.
func readyExposed(f protocol.Fleet) []string {
	var out []string
	settings := fleet.Lookup(f)
	for _, s := range f.Servers {
		_, _, l, _ := settings(s.Name)
		if what := exposed(l); l.Ready > 0 && what != "" && !slices.Contains(out, what) {
			out = append(out, what)
		}
	}
	return out
}
