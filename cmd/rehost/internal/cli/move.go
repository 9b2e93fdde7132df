package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

func newServerMove(env Env, c *client) *cobra.Command {
	var to, output string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "move SERVER", Short: "Move a server's replica to another replication server",
		Long: "Move a server's replica to another replication server, without a new sync: when the new one is up, the old one writes out what it has and\n" +
			"closes the volumes, they are detached and attached, and the new one goes on from the checkpoint. The source serves and is tracked meanwhile.\n" +
			"If the old one does not give the replica up, the server stays there.",
		Example: "  rehost server move web-1 --wait\n  rehost server move web-1 --to dedicated\n  rehost server move web-1 --to rs-0a1b2c3d", Args: one("SERVER"),
	}
	cmd.Flags().StringVar(&to, "to", "", "`replication server` to move to, or \"dedicated\" for a new one of its own (default: any other one, a new one if none has room)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the new one has the replica")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this `time` (0: never)")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		m, err := ask[protocol.MoveRequest, protocol.Move](cmd.Context(), c, protocol.VerbMove, protocol.MoveRequest{Server: args[0], To: to})
		if err != nil {
			return err
		}
		if wait {
			return waitForMove(cmd.Context(), env, c, args[0], m, timeout, output)
		}
		if output == "json" {
			return writeJSON(env.Stdout, m)
		}
		var p printer
		p.line("%s: move from %s ordered; follow it with: rehost status", args[0], m.From)
		return p.flush(env.Stdout)
	}
	return cmd
}

// waitForMove follows a move to its end, and tells each thing that it waits for once.
func waitForMove(ctx context.Context, env Env, c *client, server string, m protocol.Move, timeout time.Duration, output string) error {
	var record protocol.Server
	said := ""
	err := follow(ctx, c, timeout, func(ctx context.Context) (bool, error) {
		status, err := ask[protocol.StatusRequest, protocol.Status](ctx, c, protocol.VerbStatus, protocol.StatusRequest{Servers: []string{server}})
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(status.Servers, func(s protocol.ServerStatus) bool { return s.Record.Name == server })
		if i < 0 {
			return false, hint.New(fmt.Sprintf("server %q is gone", server), "see the servers with: rehost status")
		}
		record = status.Servers[i].Record
		if text := oneLine(status.Servers[i].Waiting); record.Move != nil && text != said && output != "json" {
			said = text
			var p printer
			p.line("%s: %s", server, text)
			if err := p.flush(env.Stdout); err != nil {
				return false, err
			}
		}
		return record.Move == nil && record.Replica != "", nil
	})
	if err != nil {
		return err
	}
	if record.Replica == m.From {
		message, next := "it came to nothing", "look at the controller's log, and try again"
		if p := record.Problem; p != nil {
			message, next = p.Message, p.Hint
		}
		return hint.New(fmt.Sprintf("%s was not moved: %s", server, oneLine(message)), next)
	}
	if output == "json" {
		return writeJSON(env.Stdout, record)
	}
	var p printer
	p.line("%s: moved from %s to %s", server, m.From, record.Replica)
	return p.flush(env.Stdout)
}
