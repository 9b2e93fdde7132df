package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

func newWave(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "wave", Short: "Plan, approve, test, rehearse, cut over and finalize the servers of a wave"})
	cmd.AddCommand(newWaveList(env, c), newWavePlan(env, c), newWaveStatus(env, c), newWaveReport(env, c), newWaveApprove(env, c), newWaveApprovals(env, c))
	for _, v := range append(jobVerbs(), rehearse()) {
		cmd.AddCommand(newJobVerb(env, c, v, ofWave()))
	}
	return cmd
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
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		status, err := ask[protocol.StatusRequest, protocol.Status](cmd.Context(), c, protocol.VerbStatus, protocol.StatusRequest{})
		if err != nil {
			return err
		}
		return listing(env, output, status.Waves, waveColumns(), status.Waves, func(p *printer) { waveTable(p, env, status.Waves) })
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
	tabulate(p, env, waveColumns(), waves)
}

func waveColumns() []column[protocol.WaveStatus] {
	type wave = protocol.WaveStatus
	columns := []column[wave]{
		{head: "WAVE", text: func(w wave) string { return w.Name }},
		{head: "SERVERS", text: func(w wave) string { return fmt.Sprint(len(w.Servers)) }},
		{head: "STATES", wide: true, text: waveStates},
	}
	for _, l := range lifecycleOrder {
		columns = append(columns, column[wave]{head: string(l), raw: func(w wave) string { return fmt.Sprint(w.Counts[l]) }})
	}
	return columns
}

func waveStates(w protocol.WaveStatus) string {
	var states []string
	for _, l := range lifecycleOrder {
		if n := w.Counts[l]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s", n, l))
		}
	}
	return strings.Join(states, ", ")
}
