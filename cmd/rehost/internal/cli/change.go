package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

// changeVerb is a verb that changes servers' records at once.
type changeVerb struct {
	use, short, long string
	action           protocol.Action
	done             string                           // what the server is then, for people
	warning          string                           // of what cannot be undone; empty: the verb asks nothing
	reached          func(protocol.ServerStatus) bool // what --wait waits for; nil: the verb is done at once
}

func removed(s protocol.ServerStatus) bool { return s.Record.Generation == "" }

func changeVerbs() []changeVerb {
	return []changeVerb{
		{
			use: "start", action: protocol.ActionStart, done: "its replication starts, with a full sync; follow it with: rehost server wait %s",
			short: "Start the replication of servers that were stopped or disconnected",
			long:  "Start to replicate again, with new volumes and a full sync (MGN: StartReplication). The agent of a server that was disconnected is to be enrolled again.",
		},
		{
			use: "stop", action: protocol.ActionStop, done: "its replication ends; start it again with: rehost server start %s",
			short: "Stop replication and remove the replica; the agent stays",
			long: "End the replication (MGN: StopReplication): staging volumes, points, snapshots and test instances are removed, the agent stays connected and waits.\n" +
				"To hold it for a while only, pause it.",
			warning: "The replicas of these servers will be removed, with their points and test instances; to start again takes a full sync:", reached: removed,
		},
		{
			use: "pause", action: protocol.ActionPause, done: "nothing more is sent; go on with: rehost server resume %s",
			short: "Send nothing for a while; what is written is tracked",
			long: "The agent sends nothing and goes on tracking (MGN: PauseReplication), so that after `rehost server resume` only what changed travels. Volumes and\n" +
				"replication server stay, and cost. No points are taken meanwhile.",
			reached: func(s protocol.ServerStatus) bool { return s.Replication == protocol.ReplicationPaused },
		},
		{
			use: "resume", action: protocol.ActionResume, done: "its replication goes on; follow it with: rehost server wait %s",
			short: "Go on after a pause", long: "Send what changed during the pause, and go on (MGN: ResumeReplication).",
		},
		{
			use: "retry", action: protocol.ActionRetry, done: "what failed is tried again now; see: rehost status %s",
			short: "Try again now what failed on the way to replication", long: "Try a failed initiation step again at once, instead of after a pause of up to a minute (MGN: RetryDataReplication).",
		},
		{
			use: "ready", action: protocol.ActionReady, done: "marked as ready; cut it over with: rehost server cutover %s",
			short: "Mark servers as ready for cutover without a test that passed",
			long:  "Say that a server is ready for cutover though no test of it has passed here (MGN: ChangeServerLifeCycleState READY_FOR_CUTOVER), with --reason, which is recorded.",
		},
		{
			use: "disconnect", action: protocol.ActionDisconnect, done: "its agent ends and its replica is removed; what is left of the agent removes: rehost-agent remove",
			short: "End a server's migration: the agent ends, the replica is removed",
			long: "Order the agent to detach from the kernel and to end, and remove staging volumes, points, snapshots and test instances (MGN: DisconnectFromService).\n" +
				"The server stays in the configuration and is DISCONNECTED; to come back it needs its agent enrolled, and `rehost server start`.",
			warning: "The agents of these servers will end, and their replicas will be removed with their points and test instances:", reached: removed,
		},
		{
			use: "archive", action: protocol.ActionArchive, done: "archived; rehost status --archived shows it",
			short: "Leave servers whose migration is over out of the status", long: "Hide servers that are CUTOVER or DISCONNECTED from the status (MGN: MarkAsArchived). Nothing is removed.",
		},
		{
			use: "unarchive", action: protocol.ActionUnarchive, done: "in the status again",
			short: "Show archived servers in the status again", long: "Show archived servers in the status again.",
		},
		{
			use: "revoke", action: protocol.ActionRevoke, done: "the identity of its agent is revoked; to come back it needs a new one: rehost server token %s",
			short: "Revoke the identity of a server's agent",
			long: "Let the agents of these servers onto the bus no more, at once: their key may be in wrong hands. Replicas stay. To come back, remove identity.json on the\n" +
				"source (`rehost-agent remove`) and enrol with a new token.",
			warning: "The agents of these servers will be cut off:",
		},
		{
			use: "confirm", action: protocol.ActionConfirm, done: "its record holds; see: rehost status %s",
			short: "Say that a record from a backup still holds",
			long: "After a restore, a server whose agent or whose instances speak against its record is neither tested nor cut over, reverted or finalized, and its fence stays as it\n" +
				"is. This says that the source serves: its writers go on if they were stopped, and are not stopped if they run, unless record and agent agree that they are.",
			warning: "The writers on these sources go on where no cutover is recorded. See that nothing serves in their place:",
		},
	}
}

func newChangeVerb(env Env, c *client, v changeVerb) *cobra.Command {
	var output string
	var sure consent
	var wait bool
	var timeout time.Duration
	of := ofServers()
	req := protocol.ChangeRequest{Action: v.action}
	cmd := &cobra.Command{
		Use: v.use + " " + of.use, Short: v.short, Long: v.long, Args: of.args,
		Example: fmt.Sprintf("  rehost server %s %s\n  rehost server %s --app shop --reason \"ticket 4711\"", v.use, of.example, v.use),
	}
	of.flags(cmd)
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the record")
	if v.warning != "" {
		sure.flag(cmd)
	}
	if v.reached != nil {
		cmd.Flags().BoolVar(&wait, "wait", false, "wait until it is so")
		cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this `time`; it goes on (0: never)")
	}
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req.Selection = of.read(args)
		if v.warning != "" {
			if err := confirmSelection(cmd, c, sure, output, v.warning, req.Selection); err != nil {
				return err
			}
		}
		changed, err := ask[protocol.ChangeRequest, []protocol.Changed](cmd.Context(), c, protocol.VerbChange, req)
		if err != nil {
			return err
		}
		if err := tellChanged(env, output, v, changed); err != nil {
			return err
		}
		if wait {
			if err := awaitChanged(cmd.Context(), c, timeout, v, changed); err != nil {
				return err
			}
		}
		return changeOutcome(changed)
	}
	return cmd
}

func tellChanged(env Env, output string, v changeVerb, changed []protocol.Changed) error {
	if output == "json" {
		return writeJSON(env.Stdout, changed)
	}
	var p printer
	for _, s := range changed {
		if s.Problem == nil {
			p.line("%s: %s", s.Server, strings.ReplaceAll(v.done, "%s", s.Server))
			continue
		}
		p.line("%s", oneLine(s.Problem.Message))
		if s.Problem.Hint != "" {
			p.line("  hint: %s", oneLine(s.Problem.Hint))
		}
	}
	return p.flush(env.Stdout)
}

// awaitChanged waits until what was ordered is so on all servers for which it was not refused.
func awaitChanged(ctx context.Context, c *client, timeout time.Duration, v changeVerb, changed []protocol.Changed) error {
	var names []string
	for _, s := range changed {
		if s.Problem == nil {
			names = append(names, s.Server)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return follow(ctx, c, timeout, func(ctx context.Context) (bool, error) {
		status, err := ask[protocol.StatusRequest, protocol.Status](ctx, c, protocol.VerbStatus, protocol.StatusRequest{Servers: names})
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(status.Servers, func(s protocol.ServerStatus) bool { return slices.Contains(names, s.Record.Name) && !v.reached(s) }), nil
	})
}

func changeOutcome(changed []protocol.Changed) error {
	refused := 0
	for _, s := range changed {
		if s.Problem != nil {
			refused++
		}
	}
	const next = "the reasons are above"
	switch {
	case refused == 0:
		return nil
	case refused < len(changed):
		return &exitError{exitPartial, hint.New(fmt.Sprintf("%d of %d servers were left as they are", refused, len(changed)), next)}
	case refused == 1:
		return hint.New(changed[0].Server+" was left as it is", next)
	}
	return hint.New(fmt.Sprintf("all %d servers were left as they are", refused), next)
}
