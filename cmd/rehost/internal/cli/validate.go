package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"rehost/internal/config"
	"rehost/protocol"
)

// variables adds --var to a command.
func variables(cmd *cobra.Command) *map[string]string {
	return cmd.Flags().StringToString("var", nil, "value of a variable, as `name=value`; may be given several times")
}

func newValidate(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "validate DIR",
		Short:   "Check a fleet's configuration without a controller",
		Example: "  rehost validate configs/small",
		Args:    one("DIR"),
	}
	vars := variables(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		fleet, err := config.LoadFleet(args[0], *vars)
		if err != nil {
			return err
		}
		var p printer
		p.line("%s is valid: %s", args[0], counts(fleet))
		return p.flush(env.Stdout)
	}
	return cmd
}

func counts(f protocol.Fleet) string {
	return fmt.Sprintf("%s, %s, %s", number(len(f.Servers), "server"), number(len(f.Applications), "application"), number(len(f.Waves), "wave"))
}

// number writes "1 server", "3 servers".
func number(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
