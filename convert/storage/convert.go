package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rehost/convert"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Job is one conversion.
type Job struct {
	Name     string
	Server   string
	Purpose  string // test or cutover
	Devices  []Device
	Settings protocol.ConversionSettings
	// Action says what to do. ActionPlan changes nothing but what a repair of a filesystem does.
	Action protocol.ConversionAction
}

// Convert mounts, inspects, plans, applies and unmounts. The report says how it
// went, also when it went wrong.
func Convert(ctx context.Context, job Job, opt Options) protocol.ConversionReport {
	start := time.Now()
	if opt.Progress == nil {
		opt.Progress = func(string) {}
	}
	r := protocol.ConversionReport{Job: job.Name, Changes: []protocol.Change{}}
	before := count(job.Devices)
	err := convertGuest(ctx, job, opt, &r)
	r.Written = before.since(job.Devices)
	if err != nil {
		r.Problem = AsProblem(err)
	}
	r.OK = err == nil
	r.Seconds = time.Since(start).Seconds()
	return r
}

func convertGuest(ctx context.Context, job Job, opt Options, r *protocol.ConversionReport) (err error) {
	opt.Passphrase = string(job.Settings.Passphrase)
	scripts, err := newScripts(job, opt, r)
	if err != nil {
		return err
	}
	opt.All = scripts.has(protocol.ScriptAfterConversion)
	if err := scripts.onDisks(ctx); err != nil {
		return err
	}
	g, err := Mount(ctx, job.Devices, opt)
	if g != nil {
		r.Findings = append(r.Findings, g.Findings...)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if job.Action == protocol.ActionUndo {
		opt.Progress("undoing the conversion")
		return convert.Undo(g.Root)
	}
	plan, err := g.plan(job.Settings, r)
	r.Findings = append(r.Findings, plan.Findings...)
	if err != nil {
		return err
	}
	opt.Progress(fmt.Sprintf("%d changes to make", len(plan.Edits)))
	if job.Action == protocol.ActionPlan {
		for _, e := range plan.Edits {
			r.Changes = append(r.Changes, e.Change)
		}
		return nil
	}
	changes, err := convert.Apply(g.Root, plan)
	r.Changes = changes
	if err != nil {
		return fmt.Errorf("convert the guest: %w", err)
	}
	return scripts.inGuest(ctx, g)
}

// plan inspects the guest and plans its conversion.
func (g *Guest) plan(settings protocol.ConversionSettings, r *protocol.ConversionReport) (convert.Plan, error) {
	facts, err := convert.Inspect(g.Root, g.Disks)
	facts.Guest.RootDevice, facts.Guest.RootUUID = g.RootDevice, g.RootUUID
	r.Guest = facts.Guest
	if err != nil {
		return convert.Plan{}, fmt.Errorf("inspect the guest: %w", err)
	}
	g.opt.Progress(fmt.Sprintf("found %s, kernel %s, %s, %s, %s", facts.Guest.OS, facts.Guest.Kernel, facts.Guest.Initramfs,
		facts.Guest.Network, facts.Guest.BootMode))
	return convert.MakePlan(facts, settings)
}

// AsProblem returns err as a problem for people.
func AsProblem(err error) *protocol.Problem {
	var p *protocol.Problem
	if !errors.As(err, &p) {
		p = &protocol.Problem{Code: protocol.ProblemConversion, Message: err.Error(), Hint: hint.Of(err), Step: "convert"}
		if p.Hint == "" {
			p.Hint = "read the console of the conversion instance; the point and the replica are untouched, so the launch can be repeated"
		}
	}
	if p.At.IsZero() {
		p.At = time.Now().UTC()
	}
	return p
}
