package cli

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

// auditOptions say what of the log is shown, and how.
type auditOptions struct {
	since  string
	server string
	output string
	follow bool
}

func newAudit(env Env, c *client) *cobra.Command {
	var o auditOptions
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who changed what, when, why, and with which result", Args: cobra.NoArgs,
		Long: "Show the audit log, oldest first: each request to the controller that changes something, refused ones too. Who it was, the bus says, not the client.\n" +
			"The log keeps 400 days or 1 GiB, whichever is less; nobody can delete of it. A request whose result is \"unknown\" was under way when the controller ended.",
		Example: "  rehost admin audit --since 24h\n  rehost admin audit --server web-1 -o csv\n  rehost admin audit --follow",
	}
	cmd.Flags().StringVar(&o.since, "since", "", "only from this `time` on: a duration back from now (24h), a day (2026-03-01) or a time (RFC 3339)")
	cmd.Flags().StringVar(&o.server, "server", "", "only what names this `server`")
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with what comes, until interrupted")
	cmd.Flags().StringVarP(&o.output, "output", "o", "text", "output `format`: text, json or csv; json is one object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		write, err := auditWriter(env, o.output)
		if err != nil {
			return usage(err)
		}
		req := protocol.AuditRequest{Server: o.server}
		if req.Since, err = moment(o.since, time.Now()); err != nil {
			return usage(err)
		}
		return showAudit(cmd.Context(), c, req, o.follow, write)
	}
	return cmd
}

// showAudit writes page after page. One that is not followed ends with the newest entry.
func showAudit(ctx context.Context, c *client, req protocol.AuditRequest, forever bool, write func([]protocol.AuditEntry) error) error {
	return pages(ctx, c, forever, func(ctx context.Context) (bool, error) {
		page, err := ask[protocol.AuditRequest, protocol.AuditReply](ctx, c, protocol.VerbAudit, req)
		if err != nil {
			return false, err
		}
		req.After = page.Next
		return page.More, write(page.Entries)
	})
}

// pages asks for page after page until there is none now, and then goes on with what comes if it is to do so forever.
func pages(ctx context.Context, c *client, forever bool, next func(context.Context) (more bool, err error)) error {
	return follow(ctx, c, 0, func(ctx context.Context) (bool, error) {
		for {
			if more, err := next(ctx); err != nil || !more {
				return !forever, err
			}
		}
	})
}

// moment reads a time as people give it; empty is none.
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, hint.New(fmt.Sprintf("%q is no time", s), "write it as 24h, as 2026-03-01 or as 2026-03-01T12:00:00Z")
}

// auditWriter writes entries as they come. The text's head comes once.
func auditWriter(env Env, format string) (func([]protocol.AuditEntry) error, error) {
	switch format {
	case "json":
		enc := json.NewEncoder(env.Stdout)
		return func(entries []protocol.AuditEntry) error {
			for _, e := range entries {
				if err := enc.Encode(e); err != nil {
					return fmt.Errorf("write output: %w", err)
				}
			}
			return nil
		}, nil
	case "csv":
		return auditCSV(env.Stdout), nil
	case "text":
		return func(entries []protocol.AuditEntry) error {
			var p printer
			for _, e := range entries {
				auditText(&p, e)
			}
			return p.flush(env.Stdout)
		}, nil
	}
	return nil, hint.New(fmt.Sprintf("unknown output format %q", format), "use -o text, -o json or -o csv")
}

func auditText(p *printer, e protocol.AuditEntry) {
	p.line("%s  %s  %s %s  %s  %s", e.At.Local().Format(time.DateTime), cmp.Or(e.Operator, "(enrolment)"), e.Verb, auditOf(e), e.Result, progress.Short(e.Took))
	if e.Reason != "" {
		p.line("    reason: %s", oneLine(e.Reason))
	}
	if e.Problem != nil {
		p.line("    %s: %s", e.Problem.Code, oneLine(e.Problem.Message))
	}
}

// auditOf says what a request was about, in a few words; all of it is in the JSON.
func auditOf(e protocol.AuditEntry) string {
	var of struct{ Kind, Action, ID, Wave, Application string }
	_ = json.Unmarshal(e.Request, &of) // of another shape: then the servers alone are told
	var words []string
	for _, w := range []string{of.Kind, of.Action, of.Wave, of.Application, of.ID} {
		if w != "" {
			words = append(words, w)
		}
	}
	const shown = 3
	words = append(words, e.Servers[:min(len(e.Servers), shown)]...)
	if more := len(e.Servers) - shown; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, " ")
}

func auditCSV(to io.Writer) func([]protocol.AuditEntry) error {
	w, headed := csv.NewWriter(to), false
	return func(entries []protocol.AuditEntry) error {
		var rows [][]string
		if !headed {
			headed, rows = true, append(rows, []string{"id", "at", "operator", "verb", "servers", "reason", "result", "problem", "message", "took_ms", "request"})
		}
		for _, e := range entries {
			var p protocol.Problem
			if e.Problem != nil {
				p = *e.Problem
			}
			rows = append(rows, []string{
				strconv.FormatUint(e.ID, 10), e.At.UTC().Format(time.RFC3339Nano), e.Operator, e.Verb, strings.Join(e.Servers, " "), e.Reason,
				string(e.Result), string(p.Code), p.Message, strconv.FormatInt(e.Took.Milliseconds(), 10), string(e.Request),
			})
		}
		if err := w.WriteAll(rows); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return nil
	}
}
