package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/progress"
	"rehost/protocol"
)

func newPoint(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "point", Short: "Look at consistency points, and take them"})
	cmd.AddCommand(newPointList(env, c), newPointTake(env, c))
	return cmd
}

func newPointList(env Env, c *client) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "list SERVER", Short: "List the points of a server, newest first",
		Example: "  rehost point list web-1", Args: one("SERVER"),
	}
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		points, err := ask[protocol.PointsRequest, []protocol.Point](cmd.Context(), c, protocol.VerbPoints, protocol.PointsRequest{Server: args[0]})
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(env.Stdout, points)
		}
		var p printer
		if len(points) == 0 {
			p.line("no points of %s yet; take one: rehost point take %s", args[0], args[0])
			return p.flush(env.Stdout)
		}
		rows := [][]string{{"POINT", "STATE", "ORIGIN", "GRADE", "AGE", "FROZEN", "FENCED"}}
		for _, pt := range points {
			rows = append(rows, []string{
				pt.ID, string(pt.State), orDash(origin(pt)), orDash(strings.TrimSuffix(string(pt.Grade), "-consistent")),
				age(time.Now(), pt.Taken), progress.Short(pt.Frozen), yesNo(pt.Fenced),
			})
		}
		p.table(env.Width, 2, rows)
		for _, pt := range points {
			if pt.Problem != nil {
				p.line("%s: %s", pt.ID, oneLine(pt.Problem.Message))
			}
		}
		return p.flush(env.Stdout)
	}
	return cmd
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
