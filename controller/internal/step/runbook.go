package step

import (
	"context"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/preflight"
	"rehost/controller/internal/wave"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Runbook writes down how the cutover of a wave would go if it were started now, or as soon as its window opens.
func (r *Runner) Runbook(ctx context.Context, req protocol.RunbookRequest) (protocol.Runbook, error) {
	applied := r.store.Applied()
	plan, err := wave.Of(applied, req.Wave)
	if err != nil {
		return protocol.Runbook{}, &protocol.Problem{Code: protocol.ProblemUnknown, Message: err.Error(), Hint: hint.Of(err)}
	}
	return r.runbook(applied, req.Wave, bus.Sender(ctx), r.ask(ctx, plan.Servers))
}

// runbook is [Runner.Runbook] with what gates were answered.
func (r *Runner) runbook(applied protocol.Fleet, name, asker string, asked answers) (protocol.Runbook, error) {
	plan, err := wave.Of(applied, name)
	if err != nil {
		return protocol.Runbook{}, &protocol.Problem{Code: protocol.ProblemUnknown, Message: err.Error(), Hint: hint.Of(err)}
	}
	c, err := r.circumstances(applied, plan.Servers, protocol.JobCutover)
	if err != nil {
		return protocol.Runbook{}, err
	}
	if c.Evidence, err = r.evidence(applied, name, asker); err != nil {
		return protocol.Runbook{}, err
	}
	c.Answers = r.asked(asked, name)
	return wave.Runbook(applied, name, c)
}

// Never says which gates of a configuration can never open as things are, of waves of which a server is not cut over.
func (r *Runner) Never(f protocol.Fleet) []string {
	var out []string
	holders, err := r.holders()
	if err != nil {
		out = append(out, "it is not known who has which role: "+err.Error())
	}
	for _, what := range readyExposed(f) {
		out = append(out, what+" says `ready`, and not where the sealed network is: no copy is booted")
	}
	for _, w := range f.Waves {
		plan, err := wave.Of(f, w.Name)
		if err != nil || !slices.ContainsFunc(plan.Servers, func(s string) bool { return !r.over(s) }) {
			continue
		}
		never := func(why string) {
			if why != "" {
				out = append(out, "wave "+w.Name+" cannot be cut over: "+why)
			}
		}
		_, _, why := wave.Fitting(w.Gates.Windows, time.Now(), 0)
		never(why)
		never(wave.NeverApproved(w.Gates, holders))
		if where := exposedOf(f, plan.Servers); w.Gates.Rehearsed > 0 && len(where) > 0 {
			never("it is to be rehearsed, and nothing says where its sealed network is: " + strings.Join(where, ", "))
		}
		out = append(out, r.unaskable(w)...)
	}
	return out
}

// Gates judges the gates of a wave of which servers are still to be cut over, as things are now. Programs and pages are not asked: who looks
// at a status again and again does not mean to run them.
func (r *Runner) Gates(ctx context.Context, name string) ([]protocol.Gate, error) {
	applied := r.store.Applied()
	plan, err := wave.Of(applied, name)
	if err != nil || !slices.ContainsFunc(plan.Servers, func(s string) bool { return !r.over(s) }) {
		return nil, nil //nolint:nilerr // what there is no more has no gates
	}
	book, err := r.runbook(applied, name, bus.Sender(ctx), answers{})
	for i, g := range book.Gates {
		if g.Name == wave.QuotaGate || strings.HasPrefix(g.Name, "command ") || strings.HasPrefix(g.Name, "http ") {
			book.Gates[i].Hint = "it is asked by: rehost wave plan " + name
		}
	}
	return book.Gates, err
}

// closedGates refuses a cutover of servers in waves of which a gate is closed.
func (r *Runner) closedGates(applied protocol.Fleet, plan wave.Plan, whole wave.Graph, atOnce int, asker string, asked answers) *protocol.Problem {
	var left []string
	for _, s := range plan.Servers {
		if !r.over(s) {
			left = append(left, s)
		}
	}
	for _, w := range applied.Waves {
		of, err := wave.Of(applied, w.Name)
		if err != nil || !gated(w.Gates) {
			continue
		}
		servers := slices.DeleteFunc(of.Servers, func(s string) bool { return !slices.Contains(left, s) })
		if len(servers) == 0 {
			continue
		}
		c, err := r.circumstances(applied, servers, protocol.JobCutover)
		if err == nil {
			c.Evidence, err = r.evidence(applied, w.Name, asker)
		}
		if err != nil {
			return &protocol.Problem{Code: protocol.ProblemInternal, Message: err.Error()}
		}
		c.Answers = r.asked(asked, w.Name)
		if p := closed(w.Name, wave.Judge(w.Gates, c.Facts, c.Evidence, wave.Need(whole.Only(left, atOnce), c), c.Now)); p != nil {
			return p
		}
	}
	return nil
}

func gated(s protocol.GateSettings) bool {
	return len(wave.Judge(s, nil, wave.Evidence{}, 0, time.Time{})) > 0
}

// closed tells of all closed gates of a wave, or is nil.
func closed(name string, gates []protocol.Gate) *protocol.Problem {
	var why []string
	out := &protocol.Problem{Code: protocol.ProblemNotAllowed}
	for _, g := range gates {
		if !g.Open {
			why = append(why, g.Name+" ("+g.Why+")")
			if out.Hint == "" {
				out.Hint = g.Hint + "; or give a reason with --force"
			}
		}
	}
	if len(why) == 0 {
		return nil
	}
	out.Message = "gates of wave " + name + " are closed: " + strings.Join(why, "; ")
	return out
}

// circumstances are what is known of servers now, and of how long steps take. kind is that of the job which launches them.
func (r *Runner) circumstances(applied protocol.Fleet, servers []string, kind protocol.JobKind) (wave.Circumstances, error) {
	jobs, err := r.store.Jobs.List("")
	if err != nil {
		return wave.Circumstances{}, err
	}
	c := wave.Circumstances{Now: time.Now(), History: wave.NewHistory(jobs), Over: r.over}
	for _, s := range plans[protocol.JobCutover] {
		if s.when != onFailure {
			c.Steps = append(c.Steps, s.name)
		}
	}
	for _, name := range servers {
		c.Facts = append(c.Facts, r.facts(applied, name, kind))
	}
	return c, nil
}

func (r *Runner) facts(applied protocol.Fleet, name string, kind protocol.JobKind) wave.Facts {
	out := wave.Facts{Server: name}
	report, at, known := r.reports.Agent(name)
	if known {
		out.Heard, out.Lag, out.Backlog = time.Since(at) < r.cfg.AgentLost, report.Lag, report.Remaining
		if report.Verify != nil {
			out.Verified = report.Verify.Last
		}
	}
	rec, err := r.store.Servers.Get(name)
	if err == nil {
		out.Tested = rec.Tested
	}
	settings, replication, launch, _ := fleet.Settings(applied, name)
	out.Actions = applied.ActionsOf(settings, kind)
	found := preflight.Server(name, report, known, preflight.SurveyOrder(rec.Survey, launch), replication)
	out.Findings = protocol.CountFindings(append(found.Findings, preflight.Boots(rec, launch, time.Now())...))
	return out
}
