package cli

import (
	"time"

	"github.com/spf13/cobra"

	"rehost/protocol"
)

func newJob(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "job", Short: "Look at jobs"})
	cmd.AddCommand(newJobShow(env, c))
	return cmd
}

func newJobShow(env Env, c *client) *cobra.Command {
	var output string
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "show [ID]", Short: "Show the steps and the log of a job; without an id, of the newest",
		Example: "  rehost job show\n  rehost job show --follow",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVarP(&wait, "follow", "f", false, "follow the job until it ends")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop following after this `time` (0: never)")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		var req protocol.JobRequest
		if len(args) == 1 {
			req.ID = args[0]
		}
		job, err := ask[protocol.JobRequest, protocol.Job](cmd.Context(), c, protocol.VerbJob, req)
		switch {
		case err != nil:
			return err
		case wait:
			return followJob(cmd.Context(), env, c, job, timeout, output == "json")
		case output == "json":
			return writeJSON(env.Stdout, job)
		}
		return printJob(env, job)
	}
	return cmd
}

func printJob(env Env, job protocol.Job) error {
	if err := jobHead(env, job); err != nil {
		return err
	}
	env.Terminal = false // the whole of it, without a live line
	if err := newTimeline(env).show(job); err != nil {
		return err
	}
	var p printer
	for _, s := range job.Servers {
		for _, ch := range s.Changes {
			p.line("  %s: %s %s: %s", s.Server, ch.Action, ch.Path, oneLine(ch.Reason))
		}
	}
	if len(job.Log) > 0 {
		p.line("log:")
	}
	for _, e := range job.Log {
		p.line("  %s  %-20s  %s  %s", stamp(e.At), e.Event, e.Server, oneLine(e.Detail+" "+e.Error))
	}
	if err := p.flush(env.Stdout); err != nil {
		return err
	}
	if job.Status != protocol.JobCompleted {
		p.line("job %s is %s", job.ID, job.Status)
		return p.flush(env.Stdout)
	}
	return jobTail(env, job)
}
