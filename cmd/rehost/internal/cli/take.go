package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

// noFurther is how old a failure is when the controller makes no other attempt any more.
const noFurther = 6 * time.Minute

func newPointTake(env Env, c *client) *cobra.Command {
	var application, output string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "take SERVER | --application NAME", Short: "Take a point now, of a server or of all servers of an application at once",
		Example: "  rehost point take web-1 --wait\n  rehost point take --application shop --wait",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && application == "" || len(args) == 0 && application != "" {
				return nil
			}
			return hint.New(cmd.CommandPath()+" needs SERVER or --application NAME", "write one of them; see "+cmd.CommandPath()+" --help")
		},
	}
	cmd.Flags().StringVar(&application, "application", "", "take one point across all servers of this `application`")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the point is complete or has failed for good")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this `time` (0: never)")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req := protocol.PointRequest{Application: application}
		if len(args) == 1 {
			req.Server = args[0]
		}
		ordered, err := ask[protocol.PointRequest, []protocol.Point](cmd.Context(), c, protocol.VerbPoint, req)
		if err != nil {
			return err
		}
		t := &taking{env: env, client: c, quiet: output == "json", points: ordered, told: map[string]bool{}}
		if wait {
			if err := follow(cmd.Context(), c, timeout, t.step); err != nil {
				return err
			}
		} else if err := t.tell(ordered); err != nil {
			return err
		}
		if t.quiet {
			if err := writeJSON(env.Stdout, t.points); err != nil {
				return err
			}
		}
		return t.outcome()
	}
	return cmd
}

// taking follows the points of one request, one for each server, from attempt to attempt.
type taking struct {
	env    Env
	client *client
	quiet  bool
	points []protocol.Point
	told   map[string]bool
}

// step looks once; it is done when every server's point is complete or has failed for good.
func (t *taking) step(ctx context.Context) (bool, error) {
	done := true
	for i, old := range t.points {
		all, err := ask[protocol.PointsRequest, []protocol.Point](ctx, t.client, protocol.VerbPoints, protocol.PointsRequest{Server: old.Server})
		if err != nil {
			return false, err
		}
		for _, pt := range slices.Backward(all) { // newest first there
			if pt.ID == old.ID || pt.First != "" && (pt.First == old.ID || pt.First == old.First) {
				t.points[i] = pt
				if err := t.tell([]protocol.Point{pt}); err != nil {
					return false, err
				}
			}
		}
		done = done && over(t.points[i], time.Now())
	}
	return done, nil
}

// over says that nothing more will become of a point: neither it nor another attempt.
func over(pt protocol.Point, now time.Time) bool {
	if pt.State == protocol.PointLost {
		return !pt.Passing || pt.Attempt >= pt.Attempts || now.Sub(pt.Over) > noFurther
	}
	return pt.State == protocol.PointComplete || pt.State == protocol.PointRemoved
}

// tell prints each state of each point once.
func (t *taking) tell(points []protocol.Point) error {
	var p printer
	for _, pt := range points {
		key := pt.Server + " " + pt.ID + " " + string(pt.State)
		if t.quiet || t.told[key] {
			continue
		}
		t.told[key] = true
		detail := ""
		switch {
		case pt.State == protocol.PointLost && pt.Problem != nil:
			detail = ": " + oneLine(pt.Problem.Message)
		case pt.State == protocol.PointComplete:
			detail = fmt.Sprintf(": %s, frozen for %s", pt.Grade, progress.Short(pt.Frozen))
		}
		p.line("%s: point %s %s%s", pt.Server, pt.ID, pt.State, detail)
	}
	return p.flush(t.env.Stdout)
}

// outcome is an error when a point failed.
func (t *taking) outcome() error {
	for _, pt := range t.points {
		if pt.State == protocol.PointRemoved {
			return hint.New(fmt.Sprintf("point %s of %s was removed", pt.ID, pt.Server), "take another one")
		}
		if pt.State == protocol.PointLost {
			message, next := "it failed", ""
			if pt.Problem != nil {
				message, next = pt.Problem.Message, pt.Problem.Hint
			}
			if next == "" {
				next = "look at all attempts: rehost point list " + pt.Server
			}
			return hint.New(fmt.Sprintf("no point of %s: %s", pt.Server, message), next)
		}
	}
	return nil
}
