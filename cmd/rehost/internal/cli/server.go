package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

func newServer(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "server", Short: "Enrol, test, cut over and finalize servers, and hold, stop and move their replication",
		Long: "Take servers through their migration. docs/lifecycle.md says which verb is allowed in which state; one that is refused says why, and what to do.",
	})
	cmd.AddCommand(newServerToken(env, c), newServerWait(env, c), newServerMove(env, c), newServerPreflight(env, c))
	for _, v := range jobVerbs() {
		cmd.AddCommand(newJobVerb(env, c, v, ofServers()))
	}
	for _, v := range changeVerbs() {
		cmd.AddCommand(newChangeVerb(env, c, v))
	}
	return cmd
}

func newServerWait(env Env, c *client) *cobra.Command {
	var state string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "wait SERVER", Short: "Wait until a server is in a state, and show the progress of its sync",
		Long: "Wait until the server's replication is in the given state (CONTINUOUS by default), or its lifecycle is in the given\n" +
			"state or beyond, such as READY_FOR_TEST.",
		Example: "  rehost server wait web-1\n  rehost server wait web-1 --state READY_FOR_TEST --timeout 30m",
		Args:    one("SERVER"),
	}
	cmd.Flags().StringVar(&state, "state", string(protocol.ReplicationContinuous), "`state` of the replication or of the lifecycle")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "give up after this `time` (0: never)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		reached, err := stateTest(state)
		if err != nil {
			return err
		}
		return waitFor(cmd.Context(), env, c, args[0], timeout, reached)
	}
	return cmd
}

var replicationStates = []protocol.Replication{
	protocol.ReplicationInitiating, protocol.ReplicationInitialSync, protocol.ReplicationBacklog, protocol.ReplicationSnapshot,
	protocol.ReplicationContinuous, protocol.ReplicationPaused, protocol.ReplicationRescan, protocol.ReplicationStalled, protocol.ReplicationStopped,
}

// stateTest says how to see that a server is in the named state. DISCONNECTED is taken as the lifecycle's.
func stateTest(name string) (func(protocol.ServerStatus) bool, error) {
	if i := slices.Index(lifecycleOrder, protocol.Lifecycle(name)); i >= 0 {
		return func(s protocol.ServerStatus) bool { return slices.Index(lifecycleOrder, s.Record.Lifecycle) >= i }, nil
	}
	if slices.Contains(replicationStates, protocol.Replication(name)) {
		return func(s protocol.ServerStatus) bool { return s.Replication == protocol.Replication(name) }, nil
	}
	var known []string
	for _, r := range replicationStates {
		known = append(known, string(r))
	}
	for _, l := range lifecycleOrder {
		known = append(known, string(l))
	}
	return nil, usage(hint.New(fmt.Sprintf("unknown state %q", name), "states are: "+strings.Join(known, ", ")))
}

// settle is how many polls a server may take to appear.
const settle = 20

func waitFor(ctx context.Context, env Env, c *client, server string, timeout time.Duration, reached func(protocol.ServerStatus) bool) error {
	bar := progress.New(env.Stdout, env.Terminal, env.Width, time.Now)
	var said told
	start := time.Now()
	unknown := func(err error) error { // a server that was only just applied appears within a moment
		if time.Since(start) < settle*env.Poll {
			return nil
		}
		return err
	}
	err := follow(ctx, c, timeout, func(ctx context.Context) (bool, error) {
		status, err := ask[protocol.StatusRequest, protocol.Status](ctx, c, protocol.VerbStatus, protocol.StatusRequest{Servers: []string{server}})
		if p, ok := errors.AsType[*protocol.Problem](err); ok && p.Code == protocol.ProblemUnknown {
			return false, unknown(err)
		}
		if err != nil {
			return false, errors.Join(err, bar.Clear())
		}
		i := slices.IndexFunc(status.Servers, func(s protocol.ServerStatus) bool { return s.Record.Name == server })
		if i < 0 {
			return false, unknown(hint.New(fmt.Sprintf("no server %q", server), "see the servers with: rehost status"))
		}
		s := status.Servers[i]
		var p printer
		serverNotes(&p, status.At, protocol.ServerStatus{
			Record: s.Record, Agent: s.Agent, Replica: s.Replica, Waiting: s.Waiting, Replication: s.Replication, LastSeen: s.LastSeen,
		})
		if text := said.fresh(p.b.String()); text != "" {
			if err := newLines(bar, env.Stdout, text); err != nil {
				return false, err
			}
		}
		return reached(s), bar.Update(syncState(s))
	})
	return errors.Join(err, bar.Finish())
}
