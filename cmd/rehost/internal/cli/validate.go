package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"rehost/internal/config"
	"rehost/protocol"
)

// variables are the values that the caller gives for variable blocks.
type variables struct {
	values map[string]string
	files  []string
}

// variableFlags adds --var and --var-file to a command.
func variableFlags(cmd *cobra.Command) *variables {
	v := &variables{}
	cmd.Flags().StringToStringVar(&v.values, "var", nil, "value of a variable, as `name=value`; may be given several times")
	cmd.Flags().StringArrayVar(&v.files, "var-file", nil, "`file` of name = value lines; may be given several times, the last one counts; --var comes before them")
	return v
}

func (v variables) load(path string) (protocol.Fleet, error) {
	return config.LoadFleet(path, v.values, v.files...)
}

func newValidate(env Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "validate DIR",
		Short:   "Check a fleet's configuration without a controller",
		Example: "  rehost validate configs/small\n  rehost validate configs/typical --var-file production.vars",
		Args:    one("DIR"),
	}
	vars := variableFlags(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		fleet, err := vars.load(args[0])
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
