package cli

import (
	"cmp"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

func newEvents(env Env, c *client) *cobra.Command {
	var req protocol.EventsRequest
	var since, output string
	var forever bool
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened to servers and in jobs", Args: cobra.NoArgs,
		Long: "Show the events, oldest first: each change of a server's lifecycle and replication, and each entry of a job's log. They are what webhooks get.\n" +
			"The stream keeps 90 days or 256 MiB, whichever is less. In JSON each line is a CloudEvent.",
		Example: "  rehost events --since 1h\n  rehost events --server web-1 --follow\n  rehost events --type server.* --type job.job_end -o json",
	}
	cmd.Flags().StringVar(&since, "since", "", "only from this `time` on: a duration back from now (24h), a day (2026-03-01) or a time (RFC 3339)")
	cmd.Flags().StringVar(&req.Server, "server", "", "only what concerns this `server`")
	cmd.Flags().StringArrayVar(&req.Types, "type", nil, "only events of this `type`, such as server.lifecycle, job.* or job.check_fail; may be repeated")
	cmd.Flags().BoolVarP(&forever, "follow", "f", false, "go on with what comes, until interrupted")
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		for _, t := range req.Types {
			if !protocol.CheckEventPattern(t) {
				return usage(hint.New(fmt.Sprintf("%q is no type of event", t), "such as server.lifecycle, job.job_end, server.* or job.*; docs/protocol.md lists them"))
			}
		}
		var err error
		if req.Since, err = moment(since, time.Now()); err != nil {
			return usage(err)
		}
		write := eventWriter(env, output)
		return pages(cmd.Context(), c, forever, func(ctx context.Context) (bool, error) {
			page, err := ask[protocol.EventsRequest, protocol.EventsReply](ctx, c, protocol.VerbEvents, req)
			if err != nil {
				return false, err
			}
			req.After = page.Next
			return page.More, write(page.Events)
		})
	}
	return cmd
}

// eventWriter writes events as they come.
func eventWriter(env Env, format string) func([]protocol.Event) error {
	switch format {
	case formatJSON:
		enc := json.NewEncoder(env.Stdout)
		return func(events []protocol.Event) error {
			for _, e := range events {
				if err := enc.Encode(e); err != nil {
					return fmt.Errorf("write output: %w", err)
				}
			}
			return nil
		}
	case formatCSV:
		return eventCSV(env.Stdout)
	}
	return func(events []protocol.Event) error {
		var p printer
		for _, e := range events {
			name, text := eventWords(e)
			p.line("%s  %-12s  %s  %s", e.Time.Local().Format(time.DateTime), cmp.Or(e.Subject, "-"), name, text)
		}
		return p.flush(env.Stdout)
	}
}

// eventWords tells an event in words: its type, and what its data say.
func eventWords(e protocol.Event) (name, text string) {
	name = strings.TrimPrefix(e.Type, protocol.EventTypePrefix)
	switch e.Type {
	case protocol.EventLifecycle, protocol.EventReplication:
		var t protocol.Transition
		if json.Unmarshal(e.Data, &t) != nil {
			return name, ""
		}
		text = cmp.Or(t.From, "(new)") + " -> " + t.To
		if t.Job != "" {
			text += "  in " + t.Job
		}
		return name, text
	}
	var d protocol.JobEventData
	if json.Unmarshal(e.Data, &d) != nil {
		return name, ""
	}
	words := []string{d.Job}
	for _, w := range []string{d.Detail, d.Error} {
		if w != "" {
			words = append(words, oneLine(w))
		}
	}
	if d.Took > 0 {
		words = append(words, "took "+progress.Short(d.Took))
	}
	return name, strings.Join(words, "  ")
}

func eventCSV(to io.Writer) func([]protocol.Event) error {
	w, headed := csv.NewWriter(to), false
	return func(events []protocol.Event) error {
		var rows [][]string
		if !headed {
			headed, rows = true, append(rows, []string{"time", "id", "type", "server", "source", "text", "data"})
		}
		for _, e := range events {
			name, text := eventWords(e)
			rows = append(rows, []string{e.Time.UTC().Format(time.RFC3339Nano), e.ID, name, e.Subject, e.Source, text, string(e.Data)})
		}
		if err := w.WriteAll(rows); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return nil
	}
}
