package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

// waveVerb is a verb that starts a job for a wave.
type waveVerb struct {
	use, short, long string
	kind             protocol.JobKind
	warning          string // of what cannot be undone; empty: the verb asks nothing
}

func waveVerbs() []waveVerb {
	return []waveVerb{
		{
			use: "test", kind: protocol.JobTest,
			short: "Launch a test instance of each server from a new point",
			long:  "Take a point of each server, convert a clone of it and launch a test instance. The sources go on serving and replicating.",
		},
		{
			use: "cutover", kind: protocol.JobCutover,
			short: "Stop the sources' writers and launch the servers in the cloud",
			long: "Fence each source (its writers stop), take a last point, convert and launch. Nothing written before the fence is lost;\n" +
				"the source stays as it is, stopped, until the wave is finalized.",
			warning: "The writers on these servers will be stopped, and their work goes on in the cloud:",
		},
		{
			use: "finalize", kind: protocol.JobFinalize,
			short:   "End replication and remove everything but the launched instances",
			long:    "Disconnect the agents and remove staging volumes, snapshots, test instances and clones. There is no way back to the source after that.",
			warning: "Replication of these servers will end for good, and their staging volumes, snapshots and points will be removed:",
		},
		{
			use: "terminate", kind: protocol.JobTerminate,
			short:   "Terminate the launched instances of a wave",
			long:    "Terminate the instances that a test or a cutover launched. What was written on them is lost; the sources are not touched.",
			warning: "The launched instances of these servers will be terminated, with everything written on them:",
		},
	}
}

func newWave(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "wave", Short: "Test, cut over and finalize the servers of a wave"})
	cmd.AddCommand(newWaveList(env, c))
	for _, v := range waveVerbs() {
		cmd.AddCommand(newWaveVerb(env, c, v))
	}
	return cmd
}

func newWaveVerb(env Env, c *client, v waveVerb) *cobra.Command {
	var output string
	var yes, detach bool
	var timeout time.Duration
	req := protocol.WaveRequest{Kind: v.kind}
	cmd := &cobra.Command{
		Use: v.use + " WAVE", Short: v.short, Long: v.long,
		Example: fmt.Sprintf("  rehost wave %s first\n  rehost wave %s first --detach", v.use, v.use),
		Args:    one("WAVE"),
	}
	cmd.Flags().BoolVar(&detach, "detach", false, "start the job and do not follow it")
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "stop following after this `time`; the job goes on (0: never)")
	cmd.Flags().StringVar(&req.Force, "force", "", "go on where the lifecycle or preflight says no, for this `reason`, which is recorded")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask (a test never asks)")
	if v.kind == protocol.JobCutover {
		cmd.Flags().BoolVar(&req.Confirmed, "writers-stopped", false, "the writers of servers with fence = \"confirmed\" are stopped")
	}
	if v.kind == protocol.JobTest || v.kind == protocol.JobCutover {
		cmd.Flags().StringToStringVar(&req.Points, "point", nil, "launch a server from an earlier point: `SERVER=POINT`, or SERVER=newest (again for each server)")
	}
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		req.Wave = args[0]
		if output != "json" {
			if err := tellChosen(cmd.Context(), env, c, req.Points); err != nil {
				return err
			}
		}
		if v.warning != "" && !yes {
			if output == "json" {
				return usage(hint.New("-o json cannot ask", "pass --yes as well"))
			}
			if err := confirmWave(cmd, env, c, v, req.Wave); err != nil {
				return err
			}
		}
		job, err := ask[protocol.WaveRequest, protocol.Job](cmd.Context(), c, protocol.VerbWave, req)
		if err != nil {
			return err
		}
		if detach {
			if output == "json" {
				return writeJSON(env.Stdout, job)
			}
			var p printer
			p.line("started job %s; follow it with: rehost job show %s --follow", job.ID, job.ID)
			return p.flush(env.Stdout)
		}
		return followJob(cmd.Context(), env, c, job, timeout, output == "json")
	}
	return cmd
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

func confirmWave(cmd *cobra.Command, env Env, c *client, v waveVerb, wave string) error {
	status, err := ask[protocol.StatusRequest, protocol.Status](cmd.Context(), c, protocol.VerbStatus, protocol.StatusRequest{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(status.Waves, func(w protocol.WaveStatus) bool { return w.Name == wave })
	if i < 0 {
		return unknownWave(wave, status.Waves)
	}
	return confirm(env, v.warning+"\n  "+strings.Join(status.Waves[i].Servers, ", "), wave)
}

func unknownWave(wave string, waves []protocol.WaveStatus) error {
	names := make([]string, 0, len(waves))
	for _, w := range waves {
		names = append(names, w.Name)
	}
	next := "apply a configuration with a wave first: rehost apply DIR"
	if len(names) > 0 {
		next = "waves are: " + strings.Join(names, ", ")
	}
	return hint.New(fmt.Sprintf("no wave %q", wave), next)
}

func newWaveList(env Env, c *client) *cobra.Command {
	var output string
	cmd := &cobra.Command{Use: "list", Short: "List the waves and where their servers are", Args: cobra.NoArgs, Example: "  rehost wave list"}
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		status, err := ask[protocol.StatusRequest, protocol.Status](cmd.Context(), c, protocol.VerbStatus, protocol.StatusRequest{})
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(env.Stdout, status.Waves)
		}
		var p printer
		waveTable(&p, env, status.Waves)
		return p.flush(env.Stdout)
	}
	return cmd
}

// lifecycleOrder is the way of a server; counts are printed in this order.
var lifecycleOrder = []protocol.Lifecycle{
	protocol.NotReady, protocol.ReadyForTest, protocol.Testing, protocol.ReadyForCutover,
	protocol.CuttingOver, protocol.Cutover, protocol.Disconnected,
}

func waveTable(p *printer, env Env, waves []protocol.WaveStatus) {
	if len(waves) == 0 {
		p.line("no waves; declare one with a wave block and run: rehost apply DIR")
		return
	}
	rows := [][]string{{"WAVE", "SERVERS", "STATES"}}
	for _, w := range waves {
		var states []string
		for _, l := range lifecycleOrder {
			if n := w.Counts[l]; n > 0 {
				states = append(states, fmt.Sprintf("%d %s", n, l))
			}
		}
		rows = append(rows, []string{w.Name, fmt.Sprint(len(w.Servers)), strings.Join(states, ", ")})
	}
	p.table(env.Width, 2, rows)
}
