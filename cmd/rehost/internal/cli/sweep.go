package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

func newSweep(env Env, c *client) *cobra.Command {
	var output string
	var remove bool
	var sure consent
	cmd := &cobra.Command{
		Use: "sweep", Short: "List what is left in the cloud and no record explains, and remove it", Args: cobra.NoArgs,
		Example: "  rehost sweep\n  rehost sweep --remove",
		Long: "List what carries rehost's tags in the cloud, is older than an hour, and is explained by no record of this controller.\n" +
			"Launched servers are never listed. If another controller works in the same account and region, its things are listed too.",
	}
	cmd.Flags().BoolVar(&remove, "remove", false, "remove what is listed; it asks first")
	sure.flag(cmd)
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		if remove {
			if err := sure.possible(output); err != nil {
				return err
			}
		}
		found, err := ask[protocol.SweepRequest, []protocol.Leftover](cmd.Context(), c, protocol.VerbSweep, protocol.SweepRequest{})
		if err != nil {
			return err
		}
		if output != "json" {
			if err := tellLeftovers(env, found); err != nil {
				return err
			}
		}
		if remove && len(found) > 0 {
			return removeLeftovers(cmd.Context(), env, c, found, sure, output)
		}
		if output == "json" {
			return writeJSON(env.Stdout, found)
		}
		return nil
	}
	return cmd
}

func removeLeftovers(ctx context.Context, env Env, c *client, found []protocol.Leftover, sure consent, output string) error {
	if err := sure.get(env, "All of this will be removed, with everything on it.", fmt.Sprintf("remove %d", len(found))); err != nil {
		return err
	}
	var ids []string
	for _, l := range found {
		ids = append(ids, l.ID)
	}
	found, err := ask[protocol.SweepRequest, []protocol.Leftover](ctx, c, protocol.VerbSweep, protocol.SweepRequest{Remove: ids})
	if err != nil {
		return err
	}
	if output == "json" {
		return writeJSON(env.Stdout, found)
	}
	return tellSwept(env, found)
}

func tellLeftovers(env Env, found []protocol.Leftover) error {
	var p printer
	if len(found) == 0 {
		p.line("nothing is left: everything with rehost's tags is explained by a record, or younger than an hour")
		return p.flush(env.Stdout)
	}
	rows := [][]string{{"KIND", "ID", "ROLE", "SERVER", "JOB", "AGE"}}
	for _, l := range found {
		rows = append(rows, []string{l.Kind, l.ID, l.Role, orDash(l.Server), orDash(l.Job), age(time.Now(), l.Created)})
	}
	p.table(env.Width, 1, rows)
	return p.flush(env.Stdout)
}

// tellSwept says what was removed; it fails when something was not.
func tellSwept(env Env, found []protocol.Leftover) error {
	var p printer
	removed := 0
	for _, l := range found {
		if l.Removed {
			removed++
		}
		if l.Error != "" {
			p.line("%s %s: %s", l.Kind, l.ID, oneLine(l.Error))
		}
	}
	p.line("removed %d of %d", removed, len(found))
	if err := p.flush(env.Stdout); err != nil {
		return err
	}
	if removed < len(found) {
		return hint.New(fmt.Sprintf("%d are still there", len(found)-removed), "run it again: a request removes for some seconds only")
	}
	return nil
}
