package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rehost/internal/config"
	"rehost/internal/hint"
)

func newFmt(env Env) *cobra.Command {
	var check, recursive bool
	cmd := &cobra.Command{
		Use:     "fmt [PATH]",
		Short:   "Bring configuration files into the usual form",
		Long:    "Rewrite the .hcl files of a folder, or one file, and print the names of those that changed.",
		Example: "  rehost fmt configs/small\n  rehost fmt --check --recursive",
		Args:    cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVar(&check, "check", false, "change nothing; exit with 1 when a file would change")
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "the folders below as well")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		path := "."
		if len(args) == 1 {
			path = args[0]
		}
		names, err := hclFiles(path, recursive)
		if err != nil {
			return err
		}
		var p printer
		var failed error
		changed := false
		for _, name := range names {
			differs, err := config.FormatFile(name, !check)
			failed = errors.Join(failed, err)
			if differs {
				changed = true
				p.line("%s", name)
			}
		}
		if err := errors.Join(failed, p.flush(env.Stdout)); err != nil {
			return err
		}
		if check && changed {
			return &exitError{code: exitFailure}
		}
		return nil
	}
	return cmd
}

// hclFiles lists path itself, or the .hcl files in it.
func hclFiles(path string, recursive bool) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, hint.Wrap(fmt.Errorf("format: %w", err), "name a folder with .hcl files, or one file")
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var names []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != path && (!recursive || strings.HasPrefix(d.Name(), ".")):
			return filepath.SkipDir
		case d.Type().IsRegular() && filepath.Ext(name) == ".hcl":
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
