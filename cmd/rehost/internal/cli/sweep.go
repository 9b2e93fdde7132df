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
	outputFlag(cmd, &output, formatCSV)
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
		if remove && len(found) > 0 {
			if output == formatText {
				if err := listLeftovers(env, output, found); err != nil {
					return err
				}
			}
			return removeLeftovers(cmd.Context(), env, c, found, sure, output)
		}
		return listLeftovers(env, output, found)
	}
	return cmd
}

func removeLeftovers(ctx context.Context, env Env, c *client, found []protocol.Leftover, sure consent, output string) error {
	if err := sure.get(ctx, c, "All of this will be removed, with everything on it.", fmt.Sprintf("remove %d", len(found))); err != nil {
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
	if output != formatText {
		return listLeftovers(env, output, found)
	}
	return tellSwept(env, found)
}

func listLeftovers(env Env, output string, found []protocol.Leftover) error {
	return listing(env, output, found, leftoverColumns(), found, func(p *printer) {
		if len(found) == 0 {
			p.line("nothing is left: everything with rehost's tags is explained by a record, or younger than an hour")
			return
		}
		tabulate(p, env, leftoverColumns(), found)
	})
}

func leftoverColumns() []column[protocol.Leftover] {
	type leftover = protocol.Leftover
	return []column[leftover]{
		{head: "KIND", text: func(l leftover) string { return l.Kind }},
		{head: "ID", text: func(l leftover) string { return l.ID }},
		{head: "ROLE", text: func(l leftover) string { return l.Role }},
		{head: "SERVER", wide: true, text: func(l leftover) string { return orDash(l.Server) }, raw: func(l leftover) string { return l.Server }},
		{head: "JOB", text: func(l leftover) string { return orDash(l.Job) }, raw: func(l leftover) string { return l.Job }},
		{head: "AGE", text: func(l leftover) string { return age(time.Now(), l.Created) }},
		{head: "CREATED", raw: func(l leftover) string { return instant(l.Created) }},
		{head: "REMOVED", raw: func(l leftover) string { return yesNo(l.Removed) }},
		{head: "ERROR", raw: func(l leftover) string { return oneLine(l.Error) }},
	}
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
