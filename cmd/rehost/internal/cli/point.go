package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/progress"
	"rehost/protocol"
)

func newPoint(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "point", Short: "Look at consistency points, take, keep and remove them"})
	cmd.AddCommand(newPointList(env, c), newPointTake(env, c), newPointPin(env, c, true), newPointPin(env, c, false), newPointRemove(env, c))
	return cmd
}

func newPointList(env Env, c *client) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list SERVER", Short: "List the points of a server, newest first",
		Example: "  rehost point list web-1", Args: one("SERVER"),
	}
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		points, err := ask[protocol.PointsRequest, []protocol.Point](cmd.Context(), c, protocol.VerbPoints, protocol.PointsRequest{Server: args[0]})
		if err != nil {
			return err
		}
		return listing(env, output, points, pointColumns(), points, func(p *printer) { pointPage(p, env, args[0], points) })
	}
	return cmd
}

func pointPage(p *printer, env Env, server string, points []protocol.Point) {
	if len(points) == 0 {
		p.line("no points of %s yet; take one: rehost point take %s", server, server)
		return
	}
	tabulate(p, env, pointColumns(), points)
	for _, pt := range points {
		if pt.Problem != nil {
			p.line("%s: %s", pt.ID, oneLine(pt.Problem.Message))
		}
	}
}

func pointColumns() []column[protocol.Point] {
	type point = protocol.Point
	return []column[point]{
		{head: "POINT", text: func(pt point) string { return pt.ID }},
		{head: "STATE", text: func(pt point) string { return string(pt.State) }},
		{head: "ORIGIN", wide: true, text: func(pt point) string { return orDash(origin(pt)) }, raw: func(pt point) string { return string(pt.Origin) }},
		{head: "APPLICATION", raw: func(pt point) string { return pt.Group }},
		{
			head: "GRADE", wide: true, raw: func(pt point) string { return string(pt.Grade) },
			text: func(pt point) string { return orDash(strings.TrimSuffix(string(pt.Grade), "-consistent")) },
		},
		{head: "AGE", text: func(pt point) string { return age(time.Now(), pt.Taken) }},
		{head: "TAKEN", raw: func(pt point) string { return instant(pt.Taken) }},
		{head: "FROZEN", text: func(pt point) string { return progress.Short(pt.Frozen) }, raw: func(pt point) string { return seconds(pt.Frozen) }},
		{head: "FENCED", text: func(pt point) string { return yesNo(pt.Fenced) }},
		{head: "PIN", text: func(pt point) string { return yesNo(pt.Pinned) }},
		{head: "PROBLEM", raw: func(pt point) string {
			if pt.Problem == nil {
				return ""
			}
			return oneLine(pt.Problem.Message)
		}},
	}
}

func newPointPin(env Env, c *client, pinned bool) *cobra.Command {
	verb, short := "pin", "Keep a point, whatever the schedule keeps"
	if !pinned {
		verb, short = "unpin", "Let the schedule decide about a point again"
	}
	var output string
	cmd := &cobra.Command{
		Use: verb + " SERVER POINT", Short: short, Args: two("SERVER", "POINT"), Example: "  rehost point " + verb + " web-1 p20260301-120000-0a1b2c",
		Long: short + ". A point that several servers took together is pinned and unpinned with all of its parts.\n" +
			"A pinned point stays until it is unpinned, or its server is finalized or removed from the configuration.",
	}
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		points, err := ask[protocol.PinRequest, []protocol.Point](cmd.Context(), c, protocol.VerbPin, protocol.PinRequest{Server: args[0], ID: args[1], Pinned: pinned})
		if err != nil {
			return err
		}
		return tellPoints(env, output, verb+"ned", points)
	}
	return cmd
}

func newPointRemove(env Env, c *client) *cobra.Command {
	var output string
	var sure consent
	cmd := &cobra.Command{
		Use: "remove SERVER POINT", Short: "Remove a point and its snapshots", Args: two("SERVER", "POINT"), Example: "  rehost point remove web-1 p20260301-120000-0a1b2c",
		Long: "Remove a point and its snapshots, with all parts of a point that several servers took together. One that is pinned,\nor that a test, a cutover or a running job uses, stays.",
	}
	sure.flag(cmd)
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		if err := sure.possible(output); err != nil {
			return err
		}
		if err := sure.get(cmd.Context(), c, "The snapshots of this point will be deleted:\n  "+args[1]+" of "+args[0], args[1]); err != nil {
			return err
		}
		points, err := ask[protocol.RemoveRequest, []protocol.Point](cmd.Context(), c, protocol.VerbRemove, protocol.RemoveRequest{Server: args[0], ID: args[1]})
		if err != nil {
			return err
		}
		return tellPoints(env, output, "removed", points)
	}
	return cmd
}

// tellPoints prints what became of the parts of a point.
func tellPoints(env Env, output, what string, points []protocol.Point) error {
	if output == "json" {
		return writeJSON(env.Stdout, points)
	}
	var p printer
	for _, pt := range points {
		p.line("%s: point %s, %s old, %s", pt.Server, pt.ID, age(time.Now(), pt.Taken), what)
	}
	return p.flush(env.Stdout)
}

// origin is who wanted a point, and with which servers it is taken.
func origin(pt protocol.Point) string {
	if pt.Group != "" {
		return string(pt.Origin) + " of " + pt.Group
	}
	return string(pt.Origin)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// age is how long ago something was, for people.
func age(now, at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return progress.Short(now.Sub(at).Truncate(time.Second))
}
