package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/progress"
	"rehost/protocol"
)

func newWaveStatus(env Env, c *client) *cobra.Command {
	var req protocol.ReportRequest
	var output string
	var watch bool
	cmd := &cobra.Command{
		Use: "status WAVE", Short: "Show how the cutover of a wave goes, beside what was predicted", Args: one("WAVE"),
		Long: "Show the runbook of a wave's newest cutover or rehearsal (or of its newest test, when there was none) with the actual times beside the predicted ones,\n" +
			"while it runs and afterwards, and how long servers, applications and the wave were down. Times count from the start.",
		Example: "  rehost wave status first\n  rehost wave status first --watch\n  rehost wave status first --job cutover-20260301-220000-0a1b2c -o json",
	}
	cmd.Flags().StringVar(&req.Job, "job", "", "another `job` of the wave")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until the job has ended")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req.Wave = args[0]
		if watch {
			return watchWave(cmd.Context(), env, c, req, output == formatJSON)
		}
		report, err := ask[protocol.ReportRequest, protocol.Report](cmd.Context(), c, protocol.VerbReport, req)
		if err != nil {
			return err
		}
		if output == formatJSON {
			return writeJSON(env.Stdout, report)
		}
		var p printer
		waveStatusPage(&p, env, report)
		return p.flush(env.Stdout)
	}
	return cmd
}

func watchWave(ctx context.Context, env Env, c *client, req protocol.ReportRequest, asJSON bool) error {
	return watch(ctx, env, c, asJSON, func(ctx context.Context) (view, error) {
		report, err := ask[protocol.ReportRequest, protocol.Report](ctx, c, protocol.VerbReport, req)
		if err == nil {
			req.Job = report.Job // a newer job of the wave is another one
		}
		var state strings.Builder
		state.WriteString(string(report.Status))
		for _, s := range report.Steps {
			state.WriteString(" " + string(s.Status))
		}
		return view{value: report, state: state.String(), page: func(p *printer) { waveStatusPage(p, env, report) }, ended: report.Status.Ended()}, err
	})
}

func waveStatusPage(p *printer, env Env, r protocol.Report) {
	p.line("wave %s: job %s  %s  %s%s", r.Wave, r.Job, kindOf(r.Kind, r.Rehearsal), r.Status, reportSpan(r))
	if r.Runbook == nil {
		p.line("note: no prediction was recorded when it was started")
	}
	p.line("")
	p.table(env.Width, []int{1, 5}, stepTable(r, false))
	p.line("")
	if r.Rehearsal == nil {
		p.table(env.Width, []int{4}, reportDowntimeTable(r))
	} else if r.Rehearsal.Cutover != nil {
		forecast(p, *r.Rehearsal.Cutover)
		p.table(env.Width, []int{2}, downtimeTable(*r.Rehearsal.Cutover))
	}
	if len(r.Gates) > 0 {
		p.line("")
		p.line("gates of the cutover, now:")
	}
	for _, g := range r.Gates {
		gateLines(p, g)
	}
	for _, a := range r.Applications {
		if a.Outcome != "" && a.Outcome != protocol.OutcomeCommitted && a.Outcome != protocol.OutcomePassed {
			p.line("%s: %s: %s", a, a.Outcome, oneLine(a.Why))
		}
	}
	for _, s := range r.Servers {
		if s.Problem != nil {
			problemLines(p, s.Server, s.Problem)
		}
	}
}

// kindOf is what a job does, for people.
func kindOf(kind protocol.JobKind, rehearsal *protocol.Rehearsal) string {
	if rehearsal != nil {
		return string(kind) + " (rehearsal)"
	}
	return string(kind)
}

// forecast says what the cutover of a wave will take, and whether it fits into a window.
func forecast(p *printer, b protocol.Runbook) {
	down := time.Duration(0)
	for _, d := range b.Downtimes {
		down = max(down, d.Time)
	}
	p.line("the cutover is predicted to take %s, with %s of downtime", progress.Short(b.End.Sub(b.Start)), progress.Short(down))
	for _, g := range b.Gates {
		switch {
		case g.Open:
			p.line("it fits into the window that is open")
		case !g.Opens.IsZero():
			p.line("it fits into a window: %s", g.Why)
		default:
			p.line("it does NOT fit: %s", oneLine(g.Why))
			p.line("  hint: %s", oneLine(g.Hint))
		}
	}
}

// reportSpan says how long a job ran or runs.
func reportSpan(r protocol.Report) string {
	if r.Ended.IsZero() {
		return "  for " + progress.Short(r.At.Sub(r.Created))
	}
	return "  took " + progress.Short(r.Ended.Sub(r.Created))
}

// stepTable is the runbook with what happened. The last column says what runs, and if it is to, what went wrong.
func stepTable(r protocol.Report, wrong bool) [][]string {
	rows := [][]string{{"STEP", "WHAT", "PREDICTED", "ACTUAL", "STATE", "NOW"}}
	for _, s := range r.Steps {
		predicted := ""
		if r.Runbook != nil && !s.Begin.IsZero() {
			predicted = times(r.Runbook.Start, s.Begin, s.End)
		}
		state := string(s.Status)
		if state == "" {
			state = "-"
		}
		what, _, _ := strings.Cut(s.What, ": ") // without the command
		now := oneLine(s.Now)
		if s.Status != protocol.StepInProgress && !wrong {
			now = ""
		}
		rows = append(rows, []string{strconv.Itoa(s.Number), what, predicted, times(r.Created, s.Began, s.Ended), state, now})
	}
	return rows
}

// times are a begin and an end, counted from a start.
func times(start, begin, end time.Time) string {
	if begin.IsZero() {
		return ""
	}
	if end.IsZero() {
		return since(start, begin) + " to ..."
	}
	return since(start, begin) + " to " + since(start, end)
}

func reportDowntimeTable(r protocol.Report) [][]string {
	rows := [][]string{{"DOWN", "PREDICTED", "ACTUAL", "ERROR", "FROM"}}
	for _, d := range r.Downtimes {
		predicted, actual, off := "-", "-", ""
		if d.Predicted > 0 {
			predicted = progress.Short(d.Predicted)
		}
		if d.Actual > 0 {
			actual = progress.Short(d.Actual)
		}
		if d.Open {
			actual += " till now"
		}
		if d.Error != nil {
			off = fmt.Sprintf("%+.0f %%", *d.Error)
		}
		rows = append(rows, []string{d.Of, predicted, actual, off, d.Basis})
	}
	return rows
}
