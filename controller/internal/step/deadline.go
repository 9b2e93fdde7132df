package step

import (
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// deadline is when each application of a cutover must be committed, or its sources writable again: as the operator says, or when the windows
// close that it begins in. Zero: never. A forced cutover has the operator's only.
func (r *Runner) deadline(applied protocol.Fleet, plan wave.Plan, req protocol.StartRequest, now time.Time) (time.Time, *protocol.Problem) {
	if req.Kind != protocol.JobCutover {
		if !req.Deadline.IsZero() {
			return time.Time{}, &protocol.Problem{Code: protocol.ProblemInvalid, Message: fmt.Sprintf("a job of kind %s has no deadline", req.Kind), Hint: "leave it out"}
		}
		return time.Time{}, nil
	}
	if !req.Deadline.IsZero() {
		return req.Deadline, r.tooShort(applied, plan, req, now)
	}
	if req.Force != "" {
		return time.Time{}, nil
	}
	var first time.Time
	for _, w := range applied.Waves {
		of, err := wave.Of(applied, w.Name)
		if err != nil || !slices.ContainsFunc(of.Servers, func(s string) bool { return slices.Contains(plan.Servers, s) && !r.over(s) }) {
			continue
		}
		if closes := wave.Closes(w.Gates.Windows, now); !closes.IsZero() && (first.IsZero() || closes.Before(first)) {
			first = closes
		}
	}
	return first, nil
}

// tooShort refuses a deadline before which the cutover is not predicted to end.
func (r *Runner) tooShort(applied protocol.Fleet, plan wave.Plan, req protocol.StartRequest, now time.Time) *protocol.Problem {
	left := req.Deadline.Sub(now).Round(time.Second)
	if left <= 0 {
		return &protocol.Problem{Code: protocol.ProblemInvalid, Message: "the deadline " + req.Deadline.Format(time.RFC3339) + " is past", Hint: "give a later one"}
	}
	servers := slices.DeleteFunc(slices.Clone(plan.Servers), r.over)
	c, err := r.circumstances(applied, servers, protocol.JobCutover)
	if err != nil {
		return &protocol.Problem{Code: protocol.ProblemInternal, Message: err.Error()}
	}
	atOnce := plan.Concurrency
	if req.Concurrency > 0 {
		atOnce = req.Concurrency
	}
	if need := wave.Need(r.orderOf(applied, servers, atOnce), c).Round(time.Second); need > left && req.Force == "" {
		return &protocol.Problem{
			Code: protocol.ProblemNotAllowed, Message: fmt.Sprintf("the cutover is predicted to take %s, and the deadline leaves %s", need, left),
			Hint: "give a later one, or a reason with --force",
		}
	}
	return nil
}

// wayBack is what it takes from the decision to roll an application back until its sources are writable: a margin, and the longest release of one
// of them that was seen.
func (l *lineup) wayBack(a protocol.JobApplication) time.Duration {
	out := time.Duration(0)
	for _, s := range a.Servers {
		out = max(out, l.history.Took(s, stepUnfence.name))
	}
	return l.cfg.WayBack + out
}

// late says why an application that is not decided must not go on, or "".
func (l *lineup) late(a protocol.JobApplication, now time.Time) string {
	job, err := l.store.Jobs.Get(l.job.ID)
	open := func(s protocol.JobServer) bool { return slices.Contains(a.Servers, s.Server) && !ended(s.Status) }
	if err != nil || job.Kind != protocol.JobCutover || !slices.ContainsFunc(job.Servers, open) {
		return "" // of what an earlier job has cut over nothing is decided
	}
	back := l.wayBack(a)
	if d := l.job.Deadline; !d.IsZero() && d.Sub(now) < back {
		return fmt.Sprintf("the deadline %s is near, and %s are kept for the way back", d.Format(time.RFC3339), back.Round(time.Second))
	}
	applied := l.store.Applied()
	for _, s := range job.Servers {
		if !slices.Contains(a.Servers, s.Server) || s.Status != protocol.StepInProgress {
			continue
		}
		if report, _, _ := l.reports.Agent(s.Server); lapsed(report, job.ID) {
			return lapse(s.Server).Message
		}
		settings, _, _, _ := fleet.Settings(applied, s.Server)
		if fenced := s.Steps[0].Started; settings.Fence != fleet.FenceConfirmed && settings.FenceMax > 0 && !fenced.IsZero() && fenced.Add(settings.FenceMax).Sub(now) < back {
			return fmt.Sprintf("the fence of %s lasts for %s at most, and %s are kept for the way back", s.Server, settings.FenceMax, back.Round(time.Second))
		}
	}
	return ""
}
