package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

// jobVerb is a verb that starts a job for servers.
type jobVerb struct {
	use, short, long string
	kind             protocol.JobKind
	rehearse         bool
	warning          string // of what cannot be undone; empty: the verb asks nothing
}

func jobVerbs() []jobVerb {
	return []jobVerb{
		{
			use: "test", kind: protocol.JobTest,
			short: "Launch a test instance of each server from a new point",
			long: "Take a point of each server, convert a clone of it and launch a test instance (MGN: StartTest). The sources go on serving and replicating.\n" +
				"Each test replaces the one before.",
		},
		{
			use: "cutover", kind: protocol.JobCutover,
			short: "Stop the sources' writers and launch the servers in the cloud",
			long: "Fence the sources of an application (their writers stop), take one last point of all, convert, launch and check (MGN: StartCutover). When all of its\n" +
				"checks have passed it is committed; otherwise all of its sources go on and its targets are terminated. Nothing written before the fence is lost;\n" +
				"the source stays as it is, stopped, until the server is finalized, or reverted. A server that no test of has passed needs --force REASON.",
			warning: "The writers on these servers will be stopped, and their work goes on in the cloud:",
		},
		{
			use: "revert", kind: protocol.JobRevert,
			short: "Take a cutover back and let the sources go on; or withdraw a test",
			long: "Of servers that were cut over and not finalized: terminate the launched instances, then let the sources' writers go on. What was written on the\n" +
				"instances is lost. Of servers that are ready for cutover: withdraw that, so that they are to be tested again; the test instances stay.\n" +
				"(MGN: revert to ready for cutover, revert to ready for testing.)",
			warning: "What was cut over of these servers will be terminated, with everything written there since, and the sources go on; what was tested counts no more:",
		},
		{
			use: "finalize", kind: protocol.JobFinalize,
			short:   "End replication and remove everything but the launched instances",
			long:    "Disconnect the agents and remove staging volumes, snapshots, test instances and clones (MGN: FinalizeCutover). There is no way back to the source after that.",
			warning: "Replication of these servers will end for good, and their staging volumes, snapshots and points will be removed:",
		},
		{
			use: "terminate", kind: protocol.JobTerminate,
			short:   "Terminate the test instances",
			long:    "Terminate the instances that tests launched (MGN: TerminateTargetInstances). What was written on them is lost; the sources are not touched.",
			warning: "The test instances of these servers will be terminated, with everything written on them:",
		},
	}
}

// rehearse is the verb that waves have, and single servers do not.
func rehearse() jobVerb {
	return jobVerb{
		use: "rehearse", kind: protocol.JobTest, rehearse: true,
		short: "Do the cutover of a wave as a test, and measure what it will take",
		long: "Do the whole wave as its cutover would, in the sealed network of its launch blocks (test_subnet, test_security_groups): applications and servers in their\n" +
			"order, one point for each application, launches and checks. Nothing is fenced, and the sources go on serving and replicating. Of an application whose server\n" +
			"fails the others are cut off; what does not come after it goes on. In the end it says what the cutover will take, by what was measured, and whether that fits\n" +
			"into the wave's window. Then the instances are terminated, but for those that failed. What an earlier test left of these servers is replaced.",
	}
}

// jobFlags are what a verb's command line says beside the servers.
type jobFlags struct {
	output  string
	sure    consent
	detach  bool
	timeout time.Duration

	deadline string
}

func newJobVerb(env Env, c *client, v jobVerb, of selector) *cobra.Command {
	var f jobFlags
	req := protocol.StartRequest{Kind: v.kind}
	cmd := &cobra.Command{
		Use: v.use + " " + of.use, Short: v.short, Long: v.long, Args: of.args,
		Example: fmt.Sprintf("  rehost %s %s %s\n  rehost %s %s %s --detach", of.noun, v.use, of.example, of.noun, v.use, of.example),
	}
	of.flags(cmd)
	cmd.Flags().BoolVar(&f.detach, "detach", false, "start the job and do not follow it")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 0, "stop following after this `time`; the job goes on (0: never)")
	cmd.Flags().IntVar(&req.Concurrency, "concurrency", 0, "servers worked on at once (0: as the wave says, or 4)")
	cmd.Flags().BoolVar(&req.StopOnFailure, "stop-on-failure", false, "begin no further server when one has failed")
	f.sure.flag(cmd)
	req.Rehearse = v.rehearse
	if v.rehearse {
		cmd.Flags().StringVar(&req.Force, "force", "", "go on where nothing says that the network is sealed, or preflight says no, for this `reason`, which is recorded")
		cmd.Flags().BoolVar(&req.Keep, "keep", false, "leave the instances running; rehost wave terminate ends them")
	} else if v.kind == protocol.JobTest || v.kind == protocol.JobCutover {
		cmd.Flags().StringVar(&req.Force, "force", "", "go on where the lifecycle, preflight or a point's age says no, for this `reason`, which is recorded")
		cmd.Flags().StringToStringVar(&req.Points, "point", nil, "launch a server from an earlier point: `SERVER=POINT`, or SERVER=newest (again for each server)")
	}
	if v.kind == protocol.JobTest || v.kind == protocol.JobCutover {
		cmd.Flags().BoolVar(&req.KeepClones, "keep-clones", false, "leave the volumes of a conversion that fails, for inspection; rehost sweep removes them")
	}
	if v.kind == protocol.JobCutover {
		cmd.Flags().StringVar(&f.deadline, "deadline", "", "roll back what is not committed by then: a `time` of the day such as 04:00, or a duration such as 2h (default: when the wave's window closes)")
		cmd.Flags().BoolVar(&req.Confirmed, "writers-stopped", false, "the writers of servers with fence = \"confirmed\" are stopped")
	}
	outputFlag(cmd, &f.output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		if req.Concurrency < 0 {
			return usage(hint.New(fmt.Sprintf("--concurrency %d is negative", req.Concurrency), "leave it out, or give a number from 1 on"))
		}
		req.Selection = of.read(args)
		var err error
		if req.Deadline, err = deadline(f.deadline, time.Now()); err != nil {
			return err
		}
		return startJob(cmd, env, c, v, req, f)
	}
	return cmd
}

// deadline reads a time of the day, the next one, or a duration from now on.
func deadline(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d), nil
	}
	clock, err := time.Parse("15:04", text)
	if err != nil {
		return time.Time{}, usage(hint.New(fmt.Sprintf("--deadline %q is neither a time of the day nor a duration", text), "write it as 04:00 or as 90m"))
	}
	at := time.Date(now.Year(), now.Month(), now.Day(), clock.Hour(), clock.Minute(), 0, 0, now.Location())
	if !at.After(now) {
		at = at.AddDate(0, 0, 1)
	}
	return at, nil
}

func startJob(cmd *cobra.Command, env Env, c *client, v jobVerb, req protocol.StartRequest, f jobFlags) error {
	if f.output != "json" {
		if err := tellChosen(cmd.Context(), env, c, req.Points); err != nil {
			return err
		}
	}
	if v.warning != "" {
		if err := confirmSelection(cmd, c, f.sure, f.output, v.warning, req.Selection); err != nil {
			return err
		}
	}
	within := askTimeout
	if req.Kind == protocol.JobCutover {
		within = gatesTimeout
	}
	job, err := askWithin[protocol.StartRequest, protocol.Job](cmd.Context(), c, within, protocol.VerbStart, req)
	switch {
	case err != nil:
		return err
	case !f.detach:
		return followJob(cmd.Context(), env, c, job, f.timeout, f.output == "json")
	case f.output == "json":
		return writeJSON(env.Stdout, job)
	}
	var p printer
	p.line("started job %s; follow it with: rehost job show %s --follow", job.ID, job.ID)
	return p.flush(env.Stdout)
}

// tellChosen says how old the points are that something is to be launched from. Whether they will do, the controller says.
func tellChosen(ctx context.Context, env Env, c *client, chosen map[string]string) error {
	var p printer
	for _, server := range slices.Sorted(maps.Keys(chosen)) {
		points, err := ask[protocol.PointsRequest, []protocol.Point](ctx, c, protocol.VerbPoints, protocol.PointsRequest{Server: server})
		if err != nil {
			return err
		}
		for _, pt := range points {
			newest := chosen[server] == protocol.NewestPoint && pt.State == protocol.PointComplete
			if newest || pt.ID == chosen[server] {
				p.line("%s: from point %s, %s, %s old: what was written since is not in it", server, pt.ID, orDash(string(pt.Grade)), age(time.Now(), pt.Taken))
				break
			}
		}
	}
	return p.flush(env.Stdout)
}
