package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/progress"
	"rehost/protocol"
)

func newJob(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "job", Short: "Look at jobs, and cancel them"})
	cmd.AddCommand(newJobList(env, c), newJobShow(env, c), newJobCancel(env, c), newJobScreenshot(env, c))
	return cmd
}

func newJobList(env Env, c *client) *cobra.Command {
	var output string
	var req protocol.JobsRequest
	cmd := &cobra.Command{Use: "list", Short: "List the jobs, newest first", Args: cobra.NoArgs, Example: "  rehost job list\n  rehost job list --server web-1 --limit 0"}
	cmd.Flags().StringVar(&req.Server, "server", "", "only jobs of this `server`")
	cmd.Flags().IntVar(&req.Limit, "limit", defaultJobs, "how many at most (0: all)")
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		jobs, err := ask[protocol.JobsRequest, []protocol.Job](cmd.Context(), c, protocol.VerbJobs, req)
		if err != nil {
			return err
		}
		return listing(env, output, jobs, jobColumns(), jobs, func(p *printer) {
			if len(jobs) == 0 {
				p.line("no jobs yet; start one: rehost server test NAME")
				return
			}
			tabulate(p, env, jobColumns(), jobs)
		})
	}
	return cmd
}

// defaultJobs is how many jobs are listed: a screen of them.
const defaultJobs = 20

func jobColumns() []column[protocol.Job] {
	type job = protocol.Job
	return []column[job]{
		{head: "JOB", text: func(j job) string { return j.ID }},
		{head: "KIND", raw: func(j job) string { return string(j.Kind) }},
		{head: "OF", wide: true, text: func(j job) string { return j.Of.String() }},
		{head: "STATUS", text: func(j job) string { return string(j.Status) }},
		{head: "OK", text: func(j job) string { ok, _, _ := outcome(j); return fmt.Sprint(ok) }},
		{head: "FAILED", text: func(j job) string { _, failed, _ := outcome(j); return fmt.Sprint(failed) }},
		{head: "OTHER", raw: func(j job) string { _, _, other := outcome(j); return fmt.Sprint(other) }},
		{head: "BEGAN", text: func(j job) string { return stamp(j.Created) }, raw: func(j job) string { return instant(j.Created) }},
		{head: "ENDED", raw: func(j job) string { return instant(j.Ended) }},
		{head: "TOOK", text: func(j job) string {
			if !j.Status.Ended() {
				return "-"
			}
			return progress.Short(j.Ended.Sub(j.Created))
		}, raw: func(j job) string {
			if !j.Status.Ended() {
				return ""
			}
			return seconds(j.Ended.Sub(j.Created))
		}},
	}
}

// outcome counts the servers of a job by how it went with them.
func outcome(j protocol.Job) (ok, failed, other int) {
	ok, failed, skipped, cancelled := tally(j)
	if !j.Status.Ended() {
		failed, skipped = open(j)
	}
	return ok, failed, skipped + cancelled
}

// open counts the servers of a job that has not ended: those that failed, and those whose end is to come.
func open(j protocol.Job) (failed, other int) {
	for _, s := range j.Servers {
		switch s.Status {
		case protocol.StepFailed:
			failed++
		case protocol.StepNotStarted, protocol.StepInProgress, protocol.StepSkipped:
			other++
		case protocol.StepSucceeded, protocol.StepCancelled:
		}
	}
	return failed, other
}

func newJobCancel(env Env, c *client) *cobra.Command {
	var output string
	var wait bool
	var timeout time.Duration
	var req protocol.CancelRequest
	cmd := &cobra.Command{
		Use: "cancel ID", Short: "End a job before it is complete",
		Long: "End a job. A test or a cutover is cut off at the step it is at; what it made is removed, and the writers of a source that it had fenced go on.\n" +
			"Servers that a finalization, a revert or a termination has begun are taken to the end, and no others are begun.",
		Example: "  rehost job cancel cutover-20260301-120000-0a1b2c --reason \"window over\" --follow", Args: one("ID"),
	}
	cmd.Flags().StringVar(&req.Reason, "reason", "", "why, for the job's log")
	cmd.Flags().BoolVarP(&wait, "follow", "f", false, "follow the job until it has ended")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop following after this `time` (0: never)")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req.ID = args[0]
		job, err := ask[protocol.CancelRequest, protocol.Job](cmd.Context(), c, protocol.VerbCancel, req)
		switch {
		case err != nil:
			return err
		case wait:
			if job, err = watchJob(cmd.Context(), env, c, job, timeout, output == "json"); err != nil {
				return err
			}
			return endJob(env, job, output == "json")
		case output == "json":
			return writeJSON(env.Stdout, job)
		}
		var p printer
		p.line("job %s is being cancelled; follow it with: rehost job show %s --follow", job.ID, job.ID)
		return p.flush(env.Stdout)
	}
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
		for _, f := range s.Findings {
			p.line("  %s: %s %s: %s", s.Server, f.Severity, f.Code, oneLine(f.Message))
		}
		tellScripts(&p, "  "+s.Server+": ", s.Scripts)
		tellActions(&p, "  "+s.Server+": ", s.Actions)
		for _, ch := range s.Changes {
			p.line("  %s: %s %s: %s", s.Server, ch.Action, ch.Path, oneLine(ch.Reason))
		}
	}
	if len(job.Log) > 0 {
		p.line("log:")
	}
	for _, e := range job.Log {
		p.line("  %s", eventLine(e))
	}
	if err := p.flush(env.Stdout); err != nil {
		return err
	}
	if !job.Status.Ended() {
		p.line("job %s is %s", job.ID, job.Status)
		return p.flush(env.Stdout)
	}
	return jobTail(env, job)
}

// eventLine is an entry of a job's log: what MGN says of it, with the attempt, how long it took, and what the cloud said.
func eventLine(e protocol.JobEvent) string {
	var words []string
	if e.MaxAttempts > 1 && (e.Attempt > 1 || e.Error != "") {
		words = append(words, fmt.Sprintf("(attempt %d of %d)", e.Attempt, e.MaxAttempts))
	}
	for _, text := range []string{e.Instance, e.Detail, e.Error} {
		if text != "" && !slices.Contains(words, text) {
			words = append(words, text)
		}
	}
	if e.Took > 0 {
		words = append(words, "in "+progress.Short(e.Took))
	}
	return fmt.Sprintf("%s  %-20s  %s  %s", stamp(e.At), e.Event, cmp.Or(e.Server, e.Application), oneLine(strings.Join(words, " ")))
}
