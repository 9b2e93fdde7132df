package storage

import (
	"context"
	"fmt"
	"strings"

	"rehost/convert"
	"rehost/convert/script"
	"rehost/protocol"
)

// scripts are those of a job that run in its conversion.
type scripts struct {
	job    Job
	opt    Options
	report *protocol.ConversionReport
}

// newScripts takes note of what a plan would run, and refuses what cannot be run here.
func newScripts(job Job, opt Options, r *protocol.ConversionReport) (*scripts, error) {
	s := &scripts{job: job, opt: opt, report: r}
	if !s.has(protocol.ScriptBeforeMount) && !s.has(protocol.ScriptAfterConversion) {
		return s, nil
	}
	if opt.Script == nil {
		return s, s.fail(protocol.Finding{
			Severity: protocol.SeverityCritical, Code: protocol.FindingScript, Subject: "script", Hint: "make the appliance the conversion_image, or remove the scripts",
			Message: "scripts run in the appliance only, and this is a system of its own",
		})
	}
	if job.Action != protocol.ActionPlan {
		return s, nil
	}
	for _, phase := range []protocol.ScriptPhase{protocol.ScriptBeforeMount, protocol.ScriptAfterConversion} {
		for _, one := range protocol.ScriptsOf(job.Settings.Scripts, phase) {
			r.Scripts = append(r.Scripts, protocol.ScriptRun{Name: one.Name, Phase: phase, Outcome: protocol.ScriptPlanned})
		}
	}
	return s, nil
}

// has says whether the job runs scripts of a phase.
func (s *scripts) has(phase protocol.ScriptPhase) bool {
	return s.job.Action != protocol.ActionUndo && len(protocol.ScriptsOf(s.job.Settings.Scripts, phase)) > 0
}

// diskDrivers are what programs for LVM, RAID and LUKS need of the kernel: a script may call any of them.
var diskDrivers = append([]string{"md_mod", "raid1"}, luksDrivers...)

// onDisks runs the scripts of before anything of the guest is looked at.
func (s *scripts) onDisks(ctx context.Context) error {
	if !s.has(protocol.ScriptBeforeMount) || s.job.Action == protocol.ActionPlan {
		return nil
	}
	var disks []string
	for _, d := range s.job.Devices {
		disks = append(disks, d.Path)
	}
	if s.opt.Load != nil {
		for _, name := range diskDrivers {
			if err := s.opt.Load(name); err != nil {
				return fmt.Errorf("load driver %s: %w", name, err)
			}
		}
	}
	return s.run(ctx, protocol.ScriptBeforeMount, script.Order{Env: []string{"REHOST_DISKS=" + strings.Join(disks, " ")}})
}

// inGuest runs the scripts of after the conversion. That they run is on the disk before: there is no undo any more.
func (s *scripts) inGuest(ctx context.Context, g *Guest) error {
	var names []string
	for _, one := range s.job.Settings.Scripts {
		if one.Phase != protocol.ScriptFirstBoot {
			names = append(names, one.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := convert.NoteScripts(g.Root, names); err != nil {
		return fmt.Errorf("take note of the scripts: %w", err)
	}
	if !s.has(protocol.ScriptAfterConversion) {
		return nil
	}
	if err := s.run(ctx, protocol.ScriptAfterConversion, script.Order{Root: g.dir, Mounts: g.places()}); err != nil {
		return err
	}
	return s.lookAgain(g)
}

// lookAgain says what the scripts took back of the conversion. It stays as they want it, unless the guest would not boot.
func (s *scripts) lookAgain(g *Guest) error {
	s.opt.Progress("looking at what the scripts have left")
	guest := s.report.Guest
	plan, err := g.plan(s.job.Settings, s.report)
	if err != nil {
		s.report.Guest = guest
		s.report.Findings = append(s.report.Findings, plan.Findings...)
		return fmt.Errorf("after the scripts: %w", err)
	}
	for _, e := range plan.Edits {
		s.report.Findings = append(s.report.Findings, protocol.Finding{
			Severity: protocol.SeverityWarning, Code: protocol.FindingScriptChanged, Subject: e.Path,
			Message: fmt.Sprintf("a script changed %s, which the conversion needs otherwise: %s", e.Path, e.Reason), Hint: "see that it was meant",
		})
	}
	return nil
}

// run runs the scripts of a phase, one after the other, until one fails that must not.
func (s *scripts) run(ctx context.Context, phase protocol.ScriptPhase, o script.Order) error {
	o.Env = append(o.Env, "REHOST_JOB="+s.job.Name, "REHOST_SERVER="+s.job.Server, "REHOST_PURPOSE="+s.job.Purpose)
	for _, one := range protocol.ScriptsOf(s.job.Settings.Scripts, phase) {
		s.opt.Progress(fmt.Sprintf("script %s (%s) begins", one.Name, phase))
		o.Script = one
		run, err := s.opt.Script(ctx, o)
		s.report.Scripts = shorten(append(s.report.Scripts, run))
		how := ended(run, one, err)
		s.opt.Progress(fmt.Sprintf("script %s (%s) %s", one.Name, phase, how))
		if ctx.Err() != nil {
			return err
		}
		if run.Outcome == protocol.ScriptSucceeded {
			continue
		}
		finding := protocol.Finding{
			Severity: protocol.SeverityCritical, Code: protocol.FindingScript, Subject: one.Name,
			Message: fmt.Sprintf("script %q (%s) %s%s", one.Name, phase, how, lastWords(run.Output)),
			Hint:    `mend the script; on_failure = "continue" makes this a warning`,
		}
		if one.MayFail {
			finding.Severity, finding.Hint = protocol.SeverityWarning, "mend the script if its work was needed"
		}
		if err := s.fail(finding); err != nil {
			return err
		}
	}
	return nil
}

// maxWords bounds what all scripts say in a report, in bytes: a job keeps it for each of its servers.
const maxWords = 4 << 10

// shorten drops what scripts said, of the first ones first, until the rest is short enough.
func shorten(runs []protocol.ScriptRun) []protocol.ScriptRun {
	sum := 0
	for i := len(runs) - 1; i >= 0; i-- {
		if sum += len(runs[i].Output); sum > maxWords {
			runs[i].Output = ""
		}
	}
	return runs
}

// fail takes note of a finding; the error is there if it is critical.
func (s *scripts) fail(f protocol.Finding) error {
	s.report.Findings = append(s.report.Findings, f)
	return convert.Refusal([]protocol.Finding{f})
}

// ended says how a script ended.
func ended(run protocol.ScriptRun, one protocol.Script, err error) string {
	switch {
	case err != nil:
		return "could not be run: " + err.Error()
	case run.Outcome == protocol.ScriptTimedOut:
		return fmt.Sprintf("was killed: it took longer than %s", one.Limit())
	}
	return fmt.Sprintf("ended with %d after %.1f s", run.Code, run.Seconds)
}

// lastWords is the last line of what a script said, for a message.
func lastWords(output string) string {
	if output == "" {
		return ""
	}
	return ": " + lastLine(output)
}
