package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rehost/internal/config"
	"rehost/internal/hint"
	"rehost/internal/mgn"
)

func newImport(env Env) *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Make a configuration from another tool's inventory"}
	cmd.AddCommand(&cobra.Command{
		Use:   "mgn FILE",
		Short: "Write HCL from the CSV inventory of AWS Application Migration Service",
		Long: "Write servers, applications, waves and launch settings of an inventory as HCL to the standard output.\n" +
			"What has no place in a configuration is told on the standard error.",
		Example: "  rehost import mgn inventory.csv > fleet.hcl",
		Args:    one("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			name, text, err := config.ReadText("", args[0])
			if err != nil {
				return hint.Wrap(fmt.Errorf("read inventory: %w", err), "name the CSV file that MGN's export wrote")
			}
			in, err := mgn.Import(name, text)
			if err != nil {
				return hint.Wrap(err, "correct the lines above; docs/from-mgn.md explains each column")
			}
			if err := notes(env.Stderr, in.Notes); err != nil {
				return err
			}
			return mgn.WriteHCL(env.Stdout, in)
		},
	})
	return group(cmd)
}

func newExport(env Env) *cobra.Command {
	cmd := &cobra.Command{Use: "export", Short: "Write a configuration as another tool's inventory"}
	write := &cobra.Command{
		Use:     "mgn DIR",
		Short:   "Write the CSV inventory of AWS Application Migration Service",
		Long:    "Write a configuration as MGN's CSV inventory to the standard output.\nWhat has no column there is told on the standard error.",
		Example: "  rehost export mgn configs/typical > inventory.csv",
		Args:    one("DIR"),
	}
	vars := variableFlags(write)
	write.RunE = func(_ *cobra.Command, args []string) error {
		fleet, err := vars.load(args[0])
		if err != nil {
			return err
		}
		missing, err := mgn.Export(env.Stdout, fleet)
		if err != nil {
			return err
		}
		for i, m := range missing {
			missing[i] = "no column for " + m
		}
		return notes(env.Stderr, missing)
	}
	cmd.AddCommand(write)
	return group(cmd)
}

func notes(w io.Writer, texts []string) error {
	for _, t := range texts {
		if _, err := fmt.Fprintln(w, "note:", t); err != nil {
			return err
		}
	}
	return nil
}
