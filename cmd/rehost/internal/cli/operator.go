package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// defaultDataDir is where the packaged controller keeps its state.
const defaultDataDir = "/var/lib/rehost-controller"

func newOperator(env Env, c *client) *cobra.Command {
	var dataDir, out string
	cmd := &cobra.Command{
		Use: "operator NAME", Short: "Give a person an identity of their own", Args: one("NAME"),
		Long: "Write a context file (mode 0600) with which a person commands the controller under a name of their own, which the audit log then tells.\n" +
			"Run it on the controller's machine, as who may read its data folder: the keys that sign identities do not leave it.",
		Example: "  rehost admin operator ada --out ada.json\n  REHOST_CONTEXT=ada.json rehost status",
	}
	cmd.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "the controller's data `folder`")
	cmd.Flags().StringVar(&out, "out", "", "`file` to write the context to")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if err := protocol.CheckName(args[0]); err != nil {
			return usage(hint.Wrap(err, "choose such a name"))
		}
		if out == "" {
			return usage(hint.New("no file to write the context to", "name one with --out"))
		}
		authority, err := broker.OpenAuthority(filepath.Join(dataDir, "bus"))
		if err != nil {
			return err
		}
		here, err := bus.LoadContext(filepath.Join(dataDir, "operator.json"))
		if err != nil {
			if here, err = c.context(); err != nil {
				return err
			}
		}
		id, err := authority.Identity(protocol.RoleOperator, args[0])
		if err != nil {
			return err
		}
		if err := bus.SaveContext(out, bus.Context{Bus: here.Bus, Identity: id}); err != nil {
			return err
		}
		var p printer
		p.line("wrote %s: whoever has it commands the controller as %s, for a year", out, args[0])
		return p.flush(env.Stdout)
	}
	return cmd
}
