package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

// selector is how the servers of a verb are named on its command line.
type selector struct {
	noun    string // of the command
	use     string // what follows the verb
	example string
	args    cobra.PositionalArgs
	flags   func(cmd *cobra.Command)
	read    func(args []string) protocol.Selection
}

// ofWave takes a wave's name.
func ofWave() selector {
	return selector{
		noun: "wave", use: "WAVE", example: "first", args: one("WAVE"), flags: func(*cobra.Command) {},
		read: func(args []string) protocol.Selection { return protocol.Selection{Wave: args[0]} },
	}
}

// ofServers takes servers' names, or an application or a wave.
func ofServers() selector {
	of := &protocol.Selection{}
	return selector{
		noun: "server", use: "[SERVER...]", example: "web-1 web-2",
		args: func(cmd *cobra.Command, args []string) error {
			named := 0
			for _, given := range []bool{len(args) > 0, of.Application != "", of.Wave != ""} {
				if given {
					named++
				}
			}
			if named != 1 {
				return hint.New(cmd.CommandPath()+" needs servers, or --app NAME, or --wave NAME", "name them in one way; see "+cmd.CommandPath()+" --help")
			}
			return nil
		},
		flags: func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&of.Application, "app", "", "the servers of this `application`")
			cmd.Flags().StringVar(&of.Wave, "wave", "", "the servers of this `wave`")
		},
		read: func(args []string) protocol.Selection {
			of.Servers = args
			return *of
		},
	}
}

// confirmSelection tells what cannot be undone, of which servers, and asks for the name of what was selected, or for the number of servers.
func confirmSelection(cmd *cobra.Command, c *client, sure consent, output, warning string, of protocol.Selection) error {
	if err := sure.possible(output); err != nil || sure.yes {
		return err
	}
	names, want := of.String(), of.Application
	switch {
	case of.Wave != "":
		status, err := ask[protocol.StatusRequest, protocol.Status](cmd.Context(), c, protocol.VerbStatus, protocol.StatusRequest{})
		if err != nil {
			return err
		}
		i := slices.IndexFunc(status.Waves, func(w protocol.WaveStatus) bool { return w.Name == of.Wave })
		if i < 0 {
			return unknownWave(of.Wave, status.Waves)
		}
		names, want = strings.Join(status.Waves[i].Servers, ", "), of.Wave
	case len(of.Servers) == 1:
		want = of.Servers[0]
	case len(of.Servers) > 1:
		want = fmt.Sprintf("%d servers", len(of.Servers))
	}
	return sure.get(cmd.Context(), c, warning+"\n  "+names, want)
}
