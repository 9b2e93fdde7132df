package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

func newVerify(env Env, c *client) *cobra.Command {
	var output, point string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "verify SERVER", Short: "Compare a server's disks with its replica or a point's snapshots, hash by hash",
		Long: "Compare everything that is not being written with what the replica holds, while replication goes on.\n" +
			"A difference is sent again and reported: exit code 1.\n\n" +
			"With --point, compare with the snapshots of the newest point instead: they are read in the cloud, without volumes of them, at the cloud's\n" +
			"price for each 512 KiB. What was written since the point is left out.",
		Example: "  rehost verify web-1 --wait\n  rehost verify web-1 --point p20260301-120000-0a1b2c --wait", Args: one("SERVER"),
	}
	cmd.Flags().StringVar(&point, "point", "", "compare with the snapshots of this `point`")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until everything was compared")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop waiting after this `time` (0: never)")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		report, err := ask[protocol.VerifyRequest, protocol.VerifyReport](cmd.Context(), c, protocol.VerbVerify, protocol.VerifyRequest{Server: args[0], Point: point})
		if err != nil {
			return err
		}
		if wait {
			if report, err = waitForVerify(cmd.Context(), env, c, args[0], report.ID, timeout, output == "json"); err != nil {
				return err
			}
		}
		if output == "json" {
			if err := writeJSON(env.Stdout, report); err != nil {
				return err
			}
		} else if err := verifyLine(env, args[0], report); err != nil {
			return err
		}
		if report.Differences > 0 && point != "" {
			return hint.New(fmt.Sprintf("%d granules of %s differ from the snapshots of point %s", report.Differences, args[0], point),
				"do not launch from it; compare the replica: rehost verify "+args[0]+" --wait, and take another point")
		}
		if report.Differences > 0 {
			return hint.New(fmt.Sprintf("%d granules of %s differed from the replica", report.Differences, args[0]),
				"they were sent again: take a new point, do not launch from older ones, and verify once more")
		}
		return nil
	}
	return cmd
}

// waitForVerify follows a pass to its end.
func waitForVerify(ctx context.Context, env Env, c *client, server, id string, timeout time.Duration, quiet bool) (report protocol.VerifyReport, err error) {
	bar := progress.New(env.Stdout, env.Terminal, env.Width, time.Now)
	err = follow(ctx, c, timeout, func(ctx context.Context) (bool, error) {
		report, err = ask[protocol.VerifyRequest, protocol.VerifyReport](ctx, c, protocol.VerbVerify, protocol.VerifyRequest{Server: server, ID: id})
		if err != nil {
			return false, err
		}
		if !report.Ended.IsZero() && report.Problem != nil {
			return false, hint.New("verify "+server+": "+oneLine(report.Problem.Message), report.Problem.Hint)
		}
		if !quiet {
			err = bar.Update(progress.State{Label: server, Note: "verify", Done: report.Done, Total: report.Total})
		}
		return !report.Ended.IsZero(), err
	})
	if errBar := bar.Finish(); err == nil {
		err = errBar
	}
	return report, err
}

func verifyLine(env Env, server string, r protocol.VerifyReport) error {
	var p printer
	if r.Ended.IsZero() {
		p.line("verify %s of %s ordered; follow it with: rehost verify %s --wait", r.ID, server, server)
	} else {
		left := "being written or free"
		if r.Point != "" {
			left = "written since or free"
		}
		p.line("%s: %s compared in %s, %s %s, %d differences", server, progress.Bytes(r.Done-r.Skipped),
			progress.Short(r.Ended.Sub(r.Started)), progress.Bytes(r.Skipped), left, r.Differences)
	}
	return p.flush(env.Stdout)
}
