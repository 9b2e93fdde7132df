package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

// timeline prints the steps of a job as they happen: a line for each that ended and,
// on a terminal, one live line for what runs now. In a log a step's start is a line too.
type timeline struct {
	env  Env
	now  func() time.Time
	seen map[string]protocol.StepStatus // by server, step and attempt
	live bool                           // the live line is on the screen
	name int                            // width of the server column
}

func newTimeline(env Env) *timeline {
	return &timeline{env: env, now: time.Now, seen: map[string]protocol.StepStatus{}}
}

// show prints what is new in the job.
func (t *timeline) show(job protocol.Job) error {
	var p printer
	if t.live {
		p.b.WriteString("\r\x1b[K")
		t.live = false
	}
	for _, s := range job.Servers {
		t.name = max(t.name, len(s.Server))
	}
	var running []string
	for _, s := range job.Servers {
		for _, step := range s.Steps {
			key := s.Server + " " + step.Name
			before := t.seen[key]
			t.seen[key] = step.Status
			switch step.Status {
			case protocol.StepNotStarted:
			case protocol.StepInProgress:
				running = append(running, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", s.Server, step.Name, t.took(step), step.Detail)))
				if before != step.Status && !t.env.Terminal {
					t.line(&p, s.Server, step)
				}
			case protocol.StepSucceeded, protocol.StepFailed, protocol.StepSkipped, protocol.StepCancelled:
				if before != step.Status {
					t.line(&p, s.Server, step)
				}
			}
		}
	}
	if t.env.Terminal && len(running) > 0 {
		t.live = true
		p.b.WriteString(cut("  ... "+strings.Join(running, " | "), t.env.Width-1))
	}
	return p.flush(t.env.Stdout)
}

func (t *timeline) line(p *printer, server string, s protocol.JobStep) {
	words := map[protocol.StepStatus]string{
		protocol.StepInProgress: "started", protocol.StepSucceeded: "ok", protocol.StepFailed: "FAILED", protocol.StepSkipped: "skipped",
		protocol.StepCancelled: "cut off",
	}
	detail := s.Detail
	if s.Problem != nil {
		detail = s.Problem.Message
	}
	if s.Attempts > 1 {
		detail = strings.TrimSpace(fmt.Sprintf("(attempt %d) %s", s.Attempts, detail))
	}
	p.line("%s  %-*s  %-10s  %-7s  %6s  %s", stamp(s.Started), t.name, server, s.Name, words[s.Status], t.took(s), oneLine(detail))
}

func stamp(at time.Time) string {
	if at.IsZero() {
		return "--:--:--"
	}
	return at.Local().Format(time.TimeOnly)
}

// took is how long a step ran, or runs; a step that has only started has no duration in a log.
func (t *timeline) took(s protocol.JobStep) string {
	switch {
	case s.Started.IsZero():
		return ""
	case !s.Ended.IsZero():
		return progress.Short(s.Ended.Sub(s.Started))
	case t.env.Terminal:
		return progress.Short(t.now().Sub(s.Started))
	}
	return ""
}

func (t *timeline) clear() {
	if t.live {
		t.live = false
		_, _ = io.WriteString(t.env.Stdout, "\r\x1b[K") // only cosmetic
	}
}

// followJob shows a job until it ends and turns its outcome into an exit code.
func followJob(ctx context.Context, env Env, c *client, job protocol.Job, timeout time.Duration, asJSON bool) error {
	job, err := watchJob(ctx, env, c, job, timeout, asJSON)
	if err != nil {
		return err
	}
	if err := endJob(env, job, asJSON); err != nil {
		return err
	}
	return jobOutcome(job)
}

// watchJob shows a job until it ends.
func watchJob(ctx context.Context, env Env, c *client, job protocol.Job, timeout time.Duration, asJSON bool) (protocol.Job, error) {
	line := newTimeline(env)
	defer line.clear()
	if !asJSON {
		if err := jobHead(env, job); err != nil {
			return job, err
		}
	}
	err := follow(ctx, c, timeout, func(ctx context.Context) (bool, error) {
		next, err := ask[protocol.JobRequest, protocol.Job](ctx, c, protocol.VerbJob, protocol.JobRequest{ID: job.ID})
		if err != nil {
			line.clear()
			return false, err
		}
		job = next
		if !asJSON {
			if err := line.show(job); err != nil {
				return false, err
			}
		}
		return job.Status.Ended(), nil
	})
	return job, err
}

// endJob prints what came of a job.
func endJob(env Env, job protocol.Job, asJSON bool) error {
	if asJSON {
		return writeJSON(env.Stdout, job)
	}
	return jobTail(env, job)
}

func jobHead(env Env, job protocol.Job) error {
	var p printer
	p.line("job %s  %s  %s  %s", job.ID, kindOf(job.Kind, job.Rehearsal), job.Of, number(len(job.Servers), "server"))
	return p.flush(env.Stdout)
}

// jobTail says where the launched servers are, what failed and what to do.
func jobTail(env Env, job protocol.Job) error {
	var p printer
	ok, failed, skipped, cancelled := tally(job)
	for _, a := range job.Applications {
		if a.Outcome != "" {
			p.line("%s: %s", a, oneLine(decision(a)))
		}
	}
	for _, s := range job.Servers {
		if s.Problem != nil {
			p.line("%s: %s", s.Server, oneLine(s.Problem.Message))
			if s.Problem.Hint != "" {
				p.line("  hint: %s", oneLine(s.Problem.Hint))
			}
			continue
		}
		if at := s.Data[protocol.JobDataAddress]; at != "" && s.Status != protocol.StepCancelled && !terminated(s) {
			p.line("%s: instance %s at %s", s.Server, s.Data[protocol.JobDataInstance], at)
		}
	}
	rehearsalTail(&p, job)
	text := fmt.Sprintf("%d succeeded, %d failed", ok, failed)
	if skipped > 0 {
		text += fmt.Sprintf(", %d skipped", skipped)
	}
	if cancelled > 0 {
		text += fmt.Sprintf(", %d cancelled", cancelled)
	}
	if !job.Ended.IsZero() {
		text += ", took " + progress.Short(job.Ended.Sub(job.Created))
	}
	p.line("job %s ended: %s", job.ID, text)
	return p.flush(env.Stdout)
}

// terminated says whether a rehearsal has terminated what it launched of a server.
func terminated(s protocol.JobServer) bool {
	return slices.ContainsFunc(s.Steps, func(st protocol.JobStep) bool {
		return st.Name == protocol.JobStepTerminate && st.Status == protocol.StepSucceeded
	})
}

// rehearsalTail says what a rehearsal says of the cutover, and what of it there still is.
func rehearsalTail(p *printer, job protocol.Job) {
	if job.Rehearsal == nil {
		return
	}
	if job.Rehearsal.Cutover != nil {
		forecast(p, *job.Rehearsal.Cutover)
	}
	left := slices.ContainsFunc(job.Servers, func(s protocol.JobServer) bool {
		return s.Data[protocol.JobDataAddress] != "" && s.Status != protocol.StepCancelled && !terminated(s)
	})
	if left {
		p.line("end the instances that are left: rehost wave terminate %s", job.Of.Wave)
	}
}

// decision is what a cutover or a rehearsal has decided of an application, and why.
func decision(a protocol.JobApplication) string {
	words := map[protocol.Outcome]string{
		protocol.OutcomeCommitted: "committed", protocol.OutcomeRolledBack: "rolled back", protocol.OutcomeLeftOut: "left out",
		protocol.OutcomePassed: "passed", protocol.OutcomeFailed: "failed",
	}
	if a.Why == "" {
		return words[a.Outcome]
	}
	return words[a.Outcome] + ": " + a.Why
}

// tally counts the servers of a job by outcome. One that has none of its own when its job ended has failed.
func tally(job protocol.Job) (ok, failed, skipped, cancelled int) {
	for _, s := range job.Servers {
		switch s.Status {
		case protocol.StepSucceeded:
			ok++
		case protocol.StepSkipped:
			skipped++
		case protocol.StepCancelled:
			cancelled++
		case protocol.StepFailed, protocol.StepInProgress, protocol.StepNotStarted:
			failed++
		}
	}
	return ok, failed, skipped, cancelled
}

func jobOutcome(job protocol.Job) error {
	ok, failed, skipped, cancelled := tally(job)
	total := ok + failed + skipped + cancelled
	next := "see the reasons with: rehost job show " + job.ID
	switch {
	case failed+cancelled == 0 && (ok > 0 || total == 0):
		return nil
	case failed == 0 && ok > 0:
		return &exitError{exitPartial, hint.New(fmt.Sprintf("cancelled for %d of %d servers", cancelled, total), next)}
	case failed == 0 && cancelled > 0:
		return hint.New("the job was cancelled", next)
	case ok > 0:
		return &exitError{exitPartial, hint.New(fmt.Sprintf("%d of %d servers failed", failed, total), next)}
	default:
		return hint.New(fmt.Sprintf("none of %s succeeded", number(total, "server")), next)
	}
}
