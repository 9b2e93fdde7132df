package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

// silentAfter is when a server counts as silent: its agent reports every second.
const silentAfter = 15 * time.Second

func newStatus(env Env, c *client) *cobra.Command {
	var output string
	var watch, archived bool
	cmd := &cobra.Command{
		Use: "status [SERVER...]", Short: "Show where each server is, since when, and what to do next",
		Example: "  rehost status\n  rehost status web-1 -o json\n  rehost status --watch",
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again and again, until interrupted")
	cmd.Flags().BoolVar(&archived, "archived", false, "show archived servers too")
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req := protocol.StatusRequest{Servers: args, Archived: archived}
		switch {
		case watch && output == formatCSV:
			return usage(hint.New("--watch has no CSV", "use -o json, or leave out --watch"))
		case watch:
			return watchStatus(cmd.Context(), env, c, req, output == formatJSON)
		}
		status, err := ask[protocol.StatusRequest, protocol.Status](cmd.Context(), c, protocol.VerbStatus, req)
		if err != nil {
			return err
		}
		return listing(env, output, status, serverColumns(env, status.At), status.Servers, func(p *printer) { statusPage(p, env, status) })
	}
	return cmd
}

func watchStatus(ctx context.Context, env Env, c *client, req protocol.StatusRequest, asJSON bool) error {
	return watch(ctx, env, c, asJSON, func(ctx context.Context) (view, error) {
		status, err := ask[protocol.StatusRequest, protocol.Status](ctx, c, protocol.VerbStatus, req)
		return view{value: status, state: states(status), page: func(p *printer) {
			if statusPage(p, env, status); env.Terminal {
				statusBars(p, env, status)
			}
		}}, err
	})
}

// states is what must change for a log to get a new page.
func states(status protocol.Status) string {
	var s strings.Builder
	for _, server := range status.Servers {
		_, _ = fmt.Fprintf(&s, "%s %s %s %s;", server.Record.Name, server.Record.Lifecycle, server.Replication, health(status.At, server))
	}
	return s.String()
}

// statusPage answers in this order: what state, since when, is it healthy, what is it waiting for, what to do.
func statusPage(p *printer, env Env, status protocol.Status) {
	if len(status.Servers) == 0 {
		p.line("no servers; declare one with a server block and run: rehost apply DIR")
		return
	}
	tabulate(p, env, serverColumns(env, status.At), status.Servers)
	for _, s := range status.Servers {
		serverNotes(p, status.At, s)
	}
	if len(status.Waves) > 0 {
		p.line("")
		waveTable(p, env, status.Waves)
	}
	for _, j := range status.Jobs {
		if !j.Status.Ended() {
			p.line("")
			p.line("job %s  %s  %s  %s; follow it with: rehost job show %s --follow", j.ID, j.Kind, j.Of, j.Status, j.ID)
		}
	}
	for i := range status.Problems {
		problemLines(p, "rehost", &status.Problems[i])
	}
}

// healthColors are those of the words that somebody should look at.
var healthColors = map[string]color{"problem": red, "stalled": red, "silent": yellow}

func serverColumns(env Env, now time.Time) []column[protocol.ServerStatus] {
	type server = protocol.ServerStatus
	return []column[server]{
		{head: "SERVER", wide: true, text: func(s server) string { return s.Record.Name }},
		{head: "STATE", text: func(s server) string { return string(s.Record.Lifecycle) }},
		{head: "SINCE", text: func(s server) string { return age(now, s.Record.Since) }, raw: func(s server) string { return instant(s.Record.Since) }},
		{
			head: "HEALTH", raw: func(s server) string { return health(now, s) },
			text: func(s server) string { return env.paint(healthColors[health(now, s)], health(now, s)) },
		},
		{head: "REPLICATION", text: func(s server) string { return string(s.Replication) }},
		{head: "LAG", text: lag, raw: func(s server) string {
			if s.Agent == nil {
				return ""
			}
			return seconds(s.Agent.Lag)
		}},
		{head: "SYNC", text: share, raw: func(s server) string { return strings.Trim(share(s), "-%") }},
		{head: "SYNCED BYTES", raw: func(s server) string { done, _ := synced(s); return fmt.Sprint(done) }},
		{head: "TOTAL BYTES", raw: func(s server) string { _, total := synced(s); return fmt.Sprint(total) }},
		{head: "REPLICATION SERVER", raw: func(s server) string { return s.Record.Replica }},
		{head: "LAST SEEN", raw: func(s server) string { return instant(s.LastSeen) }},
		{head: "BOOTS", raw: func(s server) string {
			if b := s.Record.Boots; b != nil && b.Answered() {
				return fmt.Sprint(b.Problem == nil)
			}
			return ""
		}},
		{head: "BOOTS AT", raw: func(s server) string {
			if b := s.Record.Boots; b != nil {
				return instant(b.At)
			}
			return ""
		}},
		{head: "WAITING", raw: func(s server) string { return oneLine(s.Waiting) }},
		{head: "NEXT", raw: func(s server) string { return oneLine(s.Next) }},
	}
}

// health is one word: the worst that is known.
func health(now time.Time, s protocol.ServerStatus) string {
	switch {
	case s.Record.Problem != nil, s.Agent != nil && len(s.Agent.Problems) > 0, s.Replica != nil && len(s.Replica.Problems) > 0:
		return "problem"
	case s.Replication == protocol.ReplicationStalled:
		return "stalled"
	case s.Agent == nil && s.LastSeen.IsZero():
		return "no agent"
	case s.Replication != protocol.ReplicationDisconnected && s.Replication != protocol.ReplicationStopped && now.Sub(s.LastSeen) > silentAfter:
		return "silent"
	}
	return "ok"
}

func lag(s protocol.ServerStatus) string {
	if s.Agent == nil {
		return "-"
	}
	return progress.Short(s.Agent.Lag)
}

// synced counts the bytes of a server's disks and how many of them the replica has.
func synced(s protocol.ServerStatus) (done, total int64) {
	if s.Agent == nil {
		return 0, 0
	}
	for _, d := range s.Agent.Disks {
		total += d.SizeBytes
		if s.Replication == protocol.ReplicationInitialSync || s.Replication == protocol.ReplicationRescan {
			done += d.Replicated
		} else {
			done += d.SizeBytes - d.Need - d.Pending
		}
	}
	return max(done, 0), total
}

func share(s protocol.ServerStatus) string {
	done, total := synced(s)
	if total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", int(float64(done)/float64(total)*100))
}

func serverNotes(p *printer, now time.Time, s protocol.ServerStatus) {
	name := s.Record.Name
	if s.Waiting != "" {
		p.line("%s waits: %s", name, s.Waiting)
	}
	if s.Record.Problem != nil {
		problemLines(p, name, s.Record.Problem)
	}
	if s.Agent != nil {
		for i := range s.Agent.Problems {
			problemLines(p, name, &s.Agent.Problems[i])
		}
	}
	if s.Replica != nil {
		for i := range s.Replica.Problems {
			problemLines(p, name, &s.Replica.Problems[i])
		}
	}
	if health(now, s) == "silent" {
		p.line("%s: nothing heard of its agent for %s", name, age(now, s.LastSeen))
		p.line("  hint: on that host: systemctl status rehost-agent")
	}
	syncNotes(p, now, s)
	if s.LastPoint != nil {
		p.line("%s last point: %s ago, %s", name, age(now, s.LastPoint.Taken), s.LastPoint.Grade)
	}
	if s.Record.Boots != nil {
		p.line("%s boots: %s", name, boots(now, *s.Record.Boots))
	}
	if s.Findings != (protocol.FindingCount{}) {
		p.line("%s preflight: %s; see rehost server preflight %s", name, s.Findings, name)
	}
	for _, text := range s.Advice {
		p.line("%s advice: %s", name, oneLine(text))
	}
	if s.Next != "" {
		p.line("%s next: %s", name, s.Next)
	}
}

// boots answers whether a copy of a server boots, with the age of the answer.
func boots(now time.Time, b protocol.BootCheck) string {
	if b.Problem == nil {
		return fmt.Sprintf("yes, %s ago, point of %s", age(now, b.At), b.Taken.UTC().Format(time.DateTime)+" UTC")
	}
	before := "never before"
	if !b.Passed.IsZero() {
		before = "it did " + age(now, b.Passed) + " ago"
	}
	word := "NO"
	if !b.Answered() {
		word = "not known"
	}
	return fmt.Sprintf("%s, %s ago (%s): %s; see rehost job show %s", word, age(now, b.At), before, oneLine(b.Problem.Message), b.Job)
}

// syncNotes says what bounds the rate while there is something to send, and what is known of the replica's content.
func syncNotes(p *printer, now time.Time, s protocol.ServerStatus) {
	a := s.Agent
	if a == nil {
		return
	}
	if len(a.TierNotes) > 0 {
		p.line("%s is tracked by %s:", s.Record.Name, a.Tier)
		for _, n := range a.TierNotes {
			p.line("  %s", n)
		}
	}
	behind := s.Replication == protocol.ReplicationInitialSync || s.Replication == protocol.ReplicationRescan ||
		s.Replication == protocol.ReplicationBacklog || s.Replication == protocol.ReplicationStalled
	if behind && a.Slow != nil {
		p.line("%s slowest part: %s (%s)", s.Record.Name, a.Slow.Part, a.Slow.Evidence)
	}
	for _, d := range a.Disks {
		if behind && (d.Rescanned > 0 || d.Free > 0) {
			p.line("%s %s: %s compared, %s free", s.Record.Name, d.Name, progress.Bytes(d.Rescanned), progress.Bytes(d.Free))
		}
	}
	if v := a.Verify; v != nil && v.Ended.IsZero() {
		p.line("%s verify: %s of %s compared, %d differences", s.Record.Name, progress.Bytes(v.Done), progress.Bytes(v.Total), v.Differences)
	} else if v != nil {
		p.line("%s verified: %s ago, %d differences", s.Record.Name, age(now, v.Ended), v.Differences)
	}
}

func problemLines(p *printer, who string, problem *protocol.Problem) {
	p.line("%s: %s (%s)", who, oneLine(problem.Message), problem.Code)
	if problem.Hint != "" {
		p.line("  hint: %s", oneLine(problem.Hint))
	}
}

// syncState is what a bar shows of a server.
func syncState(s protocol.ServerStatus) progress.State {
	state := progress.State{Label: s.Record.Name, Note: string(s.Replication)}
	state.Done, state.Total = synced(s)
	if s.Agent != nil {
		state.Rate, state.Remaining = s.Agent.Rate, s.Agent.Remaining
	}
	return state
}

func statusBars(p *printer, env Env, status protocol.Status) {
	for _, s := range status.Servers {
		switch s.Replication {
		case protocol.ReplicationInitialSync, protocol.ReplicationBacklog, protocol.ReplicationRescan:
			p.line("%s", progress.Line(syncState(s), env.Width))
		case protocol.ReplicationInitiating, protocol.ReplicationSnapshot, protocol.ReplicationContinuous, protocol.ReplicationPaused,
			protocol.ReplicationStalled, protocol.ReplicationDisconnected, protocol.ReplicationStopped:
		}
	}
}

// newLines ends a bar's line before other text.
func newLines(b *progress.Bar, w io.Writer, text string) error {
	if err := b.Clear(); err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
