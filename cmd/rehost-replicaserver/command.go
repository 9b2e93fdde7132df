package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rehost/internal/hint"
	"rehost/internal/program"
	"rehost/internal/version"
	"rehost/replicaserver"
)

const commands = "use one of: rehost-replicaserver run, check, version"

// noArgs refuses what a command does not take.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return program.TooMuch(c.CommandPath(), args[0])
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use: "rehost-replicaserver", Short: "Write replicas of servers to volumes", SilenceErrors: true, SilenceUsage: true,
		Long: "The replication server is launched by the controller and reads all that it needs from its user data.\n" +
			"AWS_EC2_METADATA_SERVICE_ENDPOINT and REHOST_BY_ID move the metadata service and the volumes' folder.\n" +
			"Exit codes: 0 ok, 1 failure, 2 wrong command line.",
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return program.Usage(hint.New(fmt.Sprintf("unknown command %q", args[0]), commands))
			}
			return nil
		},
		RunE: func(*cobra.Command, []string) error { return program.Usage(hint.New("no command given", commands)) },
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return program.Usage(hint.Wrap(err, "see "+c.CommandPath()+" --help"))
	})
	work, level := "", ""
	settings := func(c *cobra.Command) {
		standard := os.Getenv("STATE_DIRECTORY") // of systemd
		if standard == "" {
			standard = replicaserver.DefaultWorkDir
		}
		c.Flags().StringVar(&work, "work-dir", standard, "`folder` that keeps the identity")
		c.Flags().StringVar(&level, "log-level", "info", "trace, debug, info, warn or error")
	}
	add := func(use, short string, do func(ctx context.Context, cfg replicaserver.Config, log hclog.Logger) error) {
		c := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(c *cobra.Command, _ []string) error {
			log, err := logger(level, stderr)
			if err != nil {
				return err
			}
			cfg := replicaserver.Config{Metadata: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), ByID: os.Getenv("REHOST_BY_ID"), WorkDir: work}
			return do(c.Context(), cfg, log)
		}}
		settings(c)
		root.AddCommand(c)
	}
	add("run", "Run until a signal comes", runDaemon)
	add("check", "Try the metadata service, the volumes' folder and the bus", func(ctx context.Context, cfg replicaserver.Config, log hclog.Logger) error {
		if err := replicaserver.Check(ctx, cfg, log); err != nil {
			return err
		}
		_, err := fmt.Fprintln(stdout, "metadata service, volumes' folder and bus answer")
		return err
	})
	root.AddCommand(&cobra.Command{Use: "version", Short: "Print the version", Args: noArgs, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintln(stdout, version.String())
		return err
	}})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func logger(level string, stderr io.Writer) (hclog.Logger, error) {
	l := hclog.LevelFromString(level)
	if l == hclog.NoLevel {
		return nil, program.Usage(hint.New(fmt.Sprintf("%q is not a log level", level), "use trace, debug, info, warn or error"))
	}
	f, ok := stderr.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	return hclog.New(&hclog.LoggerOptions{Name: "replicaserver", Level: l, JSONFormat: !terminal, Output: stderr}), nil
}

func runDaemon(ctx context.Context, cfg replicaserver.Config, log hclog.Logger) error {
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Debug("notify systemd", "error", err)
		}
	}
	return replicaserver.Run(ctx, cfg, replicaserver.Deps{Logger: log, Notify: notify})
}
