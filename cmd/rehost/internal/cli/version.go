package cli

import (
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/version"
	"rehost/protocol"
)

func newVersion(env Env, c *client) *cobra.Command {
	var controller bool
	cmd := &cobra.Command{Use: "version", Short: "Say which build this is", Args: cobra.NoArgs, Example: "  rehost version --controller"}
	cmd.Flags().BoolVar(&controller, "controller", false, "ask the controller for its version too, and of several which one leads")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		defer c.close()
		var p printer
		p.line("rehost %s", version.String())
		if controller {
			reply, err := ask[protocol.VersionRequest, protocol.VersionReply](cmd.Context(), c, protocol.VerbVersion, protocol.VersionRequest{})
			if err != nil {
				return err
			}
			p.line("controller %s", reply.Version)
			if l := reply.Leader; l != nil {
				p.line("leads: %s on %s, term %d, since %s", l.Holder, l.Host, l.Term, l.Since.Local().Format(time.DateTime))
			}
		}
		return p.flush(env.Stdout)
	}
	return cmd
}
