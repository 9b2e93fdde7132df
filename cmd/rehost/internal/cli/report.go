package cli

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/progress"
	"rehost/protocol"
)

func newWaveReport(env Env, c *client) *cobra.Command {
	var req protocol.ReportRequest
	var output string
	cmd := &cobra.Command{
		Use: "report WAVE", Short: "Write the evidence of a wave's cutover", Args: one("WAVE"),
		Long: "Write what is recorded of a wave's newest cutover or rehearsal (or of its newest test, when there was none): who started it and why, the configuration, the gates,\n" +
			"predicted and actual times and downtimes, points, what the conversions changed, checks, what failed and what was rolled back.\n" +
			"What a job did not record is said, never shown as nothing.",
		Example: "  rehost wave report first -o markdown > first.md\n  rehost wave report first --job cutover-20260301-220000-0a1b2c -o json",
	}
	cmd.Flags().StringVar(&req.Job, "job", "", "another `job` of the wave")
	outputFlag(cmd, &output, "markdown")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req.Wave = args[0]
		report, err := ask[protocol.ReportRequest, protocol.Report](cmd.Context(), c, protocol.VerbReport, req)
		if err != nil {
			return err
		}
		var p printer
		switch output {
		case formatJSON:
			return writeJSON(env.Stdout, report)
		case "markdown":
			reportMarkdown(&p, report)
		default:
			reportText(&p, env, report)
		}
		return p.flush(env.Stdout)
	}
	return cmd
}

// reportFacts are what is to be known of a job as a whole: name and value.
func reportFacts(r protocol.Report) [][2]string {
	out := [][2]string{
		{"job", fmt.Sprintf("%s (%s), %s", r.Job, kindOf(r.Kind, r.Rehearsal), r.Status)},
		{"started", utc(r.Created)},
		{"ended", utc(r.Ended)},
		{"by", cmp.Or(r.By, "not recorded")},
		{"reason", cmp.Or(oneLine(r.Reason), "none recorded")},
	}
	for _, f := range [][2]string{{"forced, because", r.Force}, {"cancelled, because", r.Cancelled}} {
		if f[1] != "" {
			out = append(out, [2]string{f[0], oneLine(f[1])})
		}
	}
	if r.Confirmed {
		out = append(out, [2]string{"writers", "the operator said that they are stopped"})
	}
	configuration := "not recorded"
	if c := r.Configuration; c != nil {
		configuration = fmt.Sprintf("revision %d, sha256 %s", c.Revision, c.Hash)
	}
	return append(out, [2]string{"configuration", configuration})
}

// utc is a time in a document that is read elsewhere.
func utc(at time.Time) string {
	if at.IsZero() {
		return "not yet"
	}
	return at.UTC().Format(time.RFC3339)
}

// serverFacts are what is to be known of a server: name and value.
func serverFacts(s protocol.ReportServer) [][2]string {
	outcome := string(s.Status)
	if s.Outcome != "" {
		outcome += ", " + string(s.Outcome)
		if s.Application != "" {
			outcome += " with application " + s.Application
		}
	}
	if s.Took > 0 {
		outcome += ", took " + progress.Short(s.Took)
	}
	verified := "not recorded"
	if !s.Verified.IsZero() {
		verified = "as a whole, without differences, at " + utc(s.Verified)
	}
	out := [][2]string{{"outcome", outcome}, {"point", pointWords(s)}, {"compared", verified}}
	if p := s.Point; p != nil && len(p.Snapshots) > 0 {
		out = append(out, [2]string{"snapshots", strings.Join(p.Snapshots, ", ")})
	}
	if g := s.Guest; g != nil {
		out = append(out, [2]string{"guest", strings.TrimSpace(g.OS + ", kernel " + g.Kernel + ", " + g.BootMode)})
	}
	if s.Data[protocol.JobDataInstance] != "" {
		target := s.Data[protocol.JobDataInstance] + " of image " + cmp.Or(s.Data[protocol.JobDataImage], "(not recorded)")
		if at := s.Data[protocol.JobDataAddress]; at != "" {
			target += ", at " + at
		}
		out = append(out, [2]string{"target", target})
	}
	for _, a := range s.Actions {
		out = append(out, [2]string{"action", a.Name + ": " + actionWords(a)})
	}
	for _, st := range s.Steps {
		if st.Name == protocol.JobStepCheck && st.Status != protocol.StepNotStarted {
			out = append(out, [2]string{"checks", strings.TrimSuffix(string(st.Status)+": "+oneLine(st.Detail), ": ")})
		}
	}
	if p := s.Problem; p != nil {
		out = append(out, [2]string{"failed", fmt.Sprintf("%s (%s)", oneLine(p.Message), p.Code)})
		if p.Hint != "" {
			out = append(out, [2]string{"hint", oneLine(p.Hint)})
		}
	}
	return out
}

func pointWords(s protocol.ReportServer) string {
	id := s.Data[protocol.JobDataPoint]
	switch {
	case id == "":
		return "none"
	case s.Point == nil:
		return id + "; its record is gone"
	}
	words := fmt.Sprintf("%s, %s, taken at %s, frozen for %s", id, s.Point.Grade, utc(s.Point.Taken), progress.Short(s.Point.Frozen))
	if s.Point.Fenced {
		words += ", behind the fence"
	}
	if s.Data[protocol.JobDataChosen] != "" {
		words += ", chosen by the operator"
	}
	return words
}

func serverStepTable(s protocol.ReportServer) [][]string {
	rows := [][]string{{"STEP", "STATE", "BEGAN", "TOOK", "ATTEMPTS", "DETAIL"}}
	for _, st := range s.Steps {
		began, took := "", ""
		if !st.Started.IsZero() {
			began = utc(st.Started)
		}
		if !st.Started.IsZero() && !st.Ended.IsZero() {
			took = progress.Short(st.Ended.Sub(st.Started))
		}
		detail := st.Detail
		if st.Problem != nil {
			detail = st.Problem.Message
		}
		rows = append(rows, []string{st.Name, string(st.Status), began, took, strconv.Itoa(st.Attempts), oneLine(detail)})
	}
	return rows
}

func changeTable(s protocol.ReportServer) [][]string {
	rows := [][]string{{"PATH", "ACTION", "REASON", "BEFORE (SHA-256)", "AFTER (SHA-256)"}}
	for _, c := range s.Changes {
		rows = append(rows, []string{c.Path, c.Action, oneLine(c.Reason), cmp.Or(c.Before, "-"), cmp.Or(c.After, "-")})
	}
	return rows
}

func applicationTable(r protocol.Report) [][]string {
	rows := [][]string{{"WHAT", "OUTCOME", "DECIDED", "WHY"}}
	for _, a := range r.Applications {
		outcome, decided := cmp.Or(string(a.Outcome), "not decided"), ""
		if !a.Decided.IsZero() {
			decided = utc(a.Decided)
		}
		rows = append(rows, []string{a.String(), outcome, decided, oneLine(a.Why)})
	}
	return rows
}

func reportText(p *printer, env Env, r protocol.Report) {
	for _, f := range reportFacts(r) {
		p.line("%-20s%s", f[0], f[1])
	}
	for _, a := range r.Absent {
		p.line("%-20s%s", "not recorded", a)
	}
	p.line("")
	waveStatusPage(p, env, r)
	for _, s := range r.Servers {
		p.line("\n%s", s.Server)
		for _, f := range serverFacts(s) {
			p.line("  %-18s%s", f[0], f[1])
		}
		p.line("  %-18s%s", "conversion", fmt.Sprintf("%s, %s; all of them: -o markdown", number(len(s.Changes), "change"), number(len(s.Scripts), "script")))
	}
}

func reportMarkdown(p *printer, r protocol.Report) {
	p.line("# Report of wave %s\n", r.Wave)
	for _, f := range reportFacts(r) {
		p.line("- %s: %s", f[0], f[1])
	}
	p.line("- written: %s", utc(r.At))
	for _, a := range r.Absent {
		p.line("- not recorded: %s", a)
	}
	if r.Runbook == nil {
		p.line("\n## Gates\n\nNot recorded.")
	} else {
		for _, n := range r.Runbook.Notes {
			p.line("\nNote: %s.", n)
		}
		if len(r.Runbook.Gates) > 0 {
			markdownTable(p, "Gates, at the start", gateTable(r.Runbook.Gates))
		} else if r.Rehearsal == nil {
			p.line("\n## Gates\n\nThe wave has none.")
		}
	}
	markdownTable(p, "Steps", stepTable(r, true))
	decided := "Committed or rolled back"
	if r.Rehearsal == nil {
		markdownTable(p, "Downtime", reportDowntimeTable(r))
	} else if decided = "Passed or failed"; r.Rehearsal.Cutover != nil {
		p.line("\n## The cutover, as predicted when it ended\n")
		forecast(p, *r.Rehearsal.Cutover)
		markdownTable(p, "Downtime", downtimeTable(*r.Rehearsal.Cutover))
	}
	if len(r.Applications) > 0 {
		markdownTable(p, decided, applicationTable(r))
	}
	for _, s := range r.Servers {
		serverMarkdown(p, r.Job, s)
	}
}

func serverMarkdown(p *printer, job string, s protocol.ReportServer) {
	p.line("\n## Server %s\n", s.Server)
	for _, f := range serverFacts(s) {
		p.line("- %s: %s", f[0], f[1])
	}
	if s.Data[protocol.JobDataScreenshot] != "" {
		p.line("- screen after the checks: `rehost job screenshot %s %s`", job, s.Server)
	}
	if made := s.Data[protocol.JobDataConvertedSnapshots]; made != "" {
		p.line("- snapshots after the conversion: %s", made)
	}
	for _, f := range s.Findings {
		p.line("- finding: %s %s: %s", f.Severity, f.Code, oneLine(f.Message))
	}
	for _, run := range s.Scripts {
		p.line("- script: %s (%s): %s, exit code %d, after %s", run.Name, run.Phase, run.Outcome, run.Code, progress.Short(time.Duration(run.Seconds*float64(time.Second))))
	}
	markdownTable(p, "Steps of "+s.Server, serverStepTable(s))
	if len(s.Changes) > 0 {
		markdownTable(p, "What the conversion changed in "+s.Server, changeTable(s))
	}
}
