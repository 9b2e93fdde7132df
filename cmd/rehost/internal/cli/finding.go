package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

func newServerPreflight(env Env, c *client) *cobra.Command {
	var output string
	var fresh bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "preflight [SERVER...]", Short: "Show what a conversion would say, before anything is launched",
		Long: "Show what is known to go wrong, or to need attention, when the servers are converted and launched (all servers, when none is named): the\n" +
			"agents look at their hosts with the rules of the conversion, every hour and when the launch settings change. The cloud is asked what\n" +
			"it would refuse: permissions, images, profiles, keys, quotas; nothing is made there.\n" +
			"Critical findings keep test and cutover from being started: exit code 1.",
		Example: "  rehost server preflight\n  rehost server preflight web-1 --fresh\n  rehost server preflight -o json",
	}
	cmd.Flags().BoolVar(&fresh, "fresh", false, "let the agents look now, and wait for it")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "stop waiting after this `time` (0: never)")
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		found, err := preflights(cmd.Context(), c, protocol.PreflightRequest{Servers: args, Fresh: fresh}, timeout)
		if err != nil {
			return err
		}
		if err := listing(env, output, found, preflightColumns(), found, func(p *printer) { preflightPage(p, env, found) }); err != nil {
			return err
		}
		critical := 0
		for _, f := range found {
			critical += protocol.CountFindings(f.Findings).Critical
		}
		if critical > 0 {
			return hint.New(fmt.Sprintf("critical findings: %d; test and cutover are refused", critical), "do what the hints say, then look again with --fresh")
		}
		return nil
	}
	return cmd
}

// preflights asks, and waits for the surveys that it ordered.
func preflights(ctx context.Context, c *client, req protocol.PreflightRequest, timeout time.Duration) (found []protocol.Preflight, err error) {
	found, err = ask[protocol.PreflightRequest, []protocol.Preflight](ctx, c, protocol.VerbPreflight, req)
	if err != nil || !req.Fresh {
		return found, err
	}
	req.Fresh = false
	err = follow(ctx, c, timeout, func(ctx context.Context) (bool, error) {
		found, err = ask[protocol.PreflightRequest, []protocol.Preflight](ctx, c, protocol.VerbPreflight, req)
		return !slices.ContainsFunc(found, func(p protocol.Preflight) bool { return p.Pending }), err
	})
	return found, err
}

func preflightPage(p *printer, env Env, found []protocol.Preflight) {
	tabulate(p, env, preflightColumns(), found)
	for _, f := range found {
		for _, x := range f.Findings {
			p.line("")
			p.line("%s: %s %s", subject(f), x.Severity, x.Code)
			p.line("  %s", oneLine(x.Message))
			if x.Hint != "" {
				p.line("  hint: %s", oneLine(x.Hint))
			}
		}
	}
}

func preflightColumns() []column[protocol.Preflight] {
	type preflight = protocol.Preflight
	return []column[preflight]{
		{head: "SERVER", wide: true, text: subject, raw: func(f preflight) string { return f.Server }},
		{head: "CRITICAL", text: func(f preflight) string { return fmt.Sprint(protocol.CountFindings(f.Findings).Critical) }},
		{head: "WARNINGS", text: func(f preflight) string { return fmt.Sprint(protocol.CountFindings(f.Findings).Warnings) }},
		{head: "INFO", text: func(f preflight) string {
			n := protocol.CountFindings(f.Findings)
			return fmt.Sprint(len(f.Findings) - n.Critical - n.Warnings)
		}},
		{head: "SURVEYED", text: surveyed, raw: func(f preflight) string { return instant(f.Surveyed) }},
		{head: "PENDING", raw: func(f preflight) string { return yesNo(f.Pending) }},
	}
}

// subject is whom findings are about.
func subject(f protocol.Preflight) string { return cmp.Or(f.Server, "the cloud") }

func surveyed(f protocol.Preflight) string {
	at := "-"
	if !f.Surveyed.IsZero() {
		at = age(time.Now(), f.Surveyed) + " ago"
	}
	if f.Pending {
		at += ", pending"
	}
	return at
}
