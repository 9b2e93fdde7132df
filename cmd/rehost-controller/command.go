package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"rehost/controller"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/config"
	"rehost/internal/hint"
	"rehost/internal/program"
	"rehost/internal/version"
	"rehost/protocol"
)

const (
	defaultConfig = "/etc/rehost/controller.hcl"
	checkWithin   = 15 * time.Second
	// gcPercent is the garbage that may gather beside what lives, in percent of it. With a thousand servers what lives are the
	// bus's connections and streams, and a processor has more to spare for the collector than a machine has memory.
	gcPercent = 40
)

// noArgs refuses what a command does not take.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return program.TooMuch(c.CommandPath(), args[0])
	}
	return nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var path string
	root := &cobra.Command{
		Use: "rehost-controller", Short: "Take a fleet through its migration", SilenceErrors: true, SilenceUsage: true,
		Long: "The controller keeps the records of a fleet, runs the bus, and launches what a migration needs in the cloud.\n" +
			"Exit codes: 0 ok, 1 failure, 2 wrong command line.",
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		RunE: func(*cobra.Command, []string) error {
			return program.Usage(hint.New("no command given", "use one of: rehost-controller run, check, bus, version"))
		},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return program.Usage(hint.New(fmt.Sprintf("unknown command %q", args[0]), "use one of: rehost-controller run, check, bus, version"))
			}
			return nil
		},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return program.Usage(hint.Wrap(err, "see "+c.CommandPath()+" --help"))
	})
	add := func(use, short string, do func(context.Context) error) *cobra.Command {
		c := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(c *cobra.Command, _ []string) error { return do(c.Context()) }}
		root.AddCommand(c)
		return c
	}
	add("run", "Run until a signal comes", func(ctx context.Context) error { return runDaemon(ctx, path, stderr) }).
		Flags().StringVar(&path, "config", defaultConfig, "configuration `file`")
	add("check", "Load the configuration, try the cloud, and print what is in effect", func(ctx context.Context) error { return check(ctx, path, stdout) }).
		Flags().StringVar(&path, "config", defaultConfig, "configuration `file`")
	var alone controller.Config
	flags := add("bus", "Run the bus alone until a signal comes, for controllers on other machines", func(ctx context.Context) error { return runBus(ctx, alone, stderr) }).Flags()
	flags.StringVar(&alone.Dir, "data-dir", "/var/lib/rehost-bus", "`folder` of its keys and its store")
	flags.StringVar(&alone.Listen, "listen", "0.0.0.0:4222", "`host:port`")
	flags.StringSliceVar(&alone.Hosts, "host", nil, "further `name` or address under which clients reach it")
	add("version", "Print the version", func(context.Context) error {
		_, err := fmt.Fprintln(stdout, version.String())
		return err
	})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// load reads the file into the controller's own configuration, with the keys of a bus that others run.
func load(path string) (controller.Config, *broker.Authority, config.Log, error) {
	file, err := config.LoadController(path)
	if err != nil {
		return controller.Config{}, nil, config.Log{}, err
	}
	cfg := controller.Config{
		Dir: file.DataDir, ReplicaBus: file.ReplicaBus, JobServers: file.Jobs.Servers, JobsReady: file.Jobs.Ready, GateCommands: file.GateCommands,
		Cloud: cloud.Config{
			Endpoint: file.Cloud.Endpoint, Region: file.Cloud.Region, Profile: file.Cloud.Profile, CredentialsFile: file.Cloud.CredentialsFile,
			RoleARN: file.Cloud.RoleARN, ExternalID: file.Cloud.ExternalID,
		},
	}
	for _, w := range file.Webhooks {
		cfg.Webhooks = append(cfg.Webhooks, controller.Webhook{Name: w.Name, URL: w.URL, SecretFile: w.SecretFile, Events: w.Events})
	}
	if file.Bus.External == nil {
		cfg.Listen = file.Bus.Embedded.Listen
		return cfg, nil, file.Log, nil
	}
	at, keys, err := external(*file.Bus.External)
	cfg.External, cfg.Name = &at, at.Identity.Name
	return cfg, keys, file.Log, err
}

func runDaemon(ctx context.Context, path string, stderr io.Writer) error {
	cfg, keys, log, err := load(path)
	if err != nil {
		return err
	}
	logger := hclog.New(&hclog.LoggerOptions{
		Name: "controller", Level: hclog.LevelFromString(log.Level), JSONFormat: log.Format == "json", Output: stderr,
	})
	cfg.Cloud.Logger = logger.Named("cloud")
	ready := func(at protocol.Bus) {
		notify(logger, daemon.SdNotifyReady+"\nSTATUS=bus at "+strings.Join(at.Servers, ", "))
	}
	waits := func(leader protocol.Lease) {
		notify(logger, daemon.SdNotifyReady+"\nSTATUS=stands by: "+leader.Holder+" on "+leader.Host+" leads")
	}
	stop := context.AfterFunc(ctx, func() { notify(logger, daemon.SdNotifyStopping) })
	defer stop()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	logger.Info("controller starts", "version", version.String(), "dir", cfg.Dir)
	return controller.Run(ctx, cfg, controller.Deps{Logger: logger, Authority: keys, Ready: ready, Waits: waits})
}

// check says whether the daemon could run with this file.
func check(ctx context.Context, path string, stdout io.Writer) error {
	cfg, _, log, err := load(path)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	client, err := cloud.Open(ctx, cfg.Cloud)
	if err != nil {
		return err
	}
	if err := client.Check(ctx); err != nil {
		return err
	}
	for _, w := range cfg.Webhooks {
		if err := w.Check(); err != nil {
			return hint.Wrap(fmt.Errorf("webhook %s: %w", w.Name, err), hint.Of(err))
		}
	}
	at := cfg.Listen
	if cfg.External != nil {
		nc, err := bus.Connect(ctx, *cfg.External, hclog.NewNullLogger())
		if err != nil {
			return err
		}
		nc.Close()
		at = strings.Join(cfg.External.Bus.Servers, ", ") + ", as " + cfg.Name + ": answers"
	}
	endpoint := cfg.Cloud.Endpoint
	if endpoint == "" {
		endpoint = "EC2"
	}
	_, err = fmt.Fprintf(stdout, "data_dir  %s\nbus       %s\ncloud     %s, region %s: answers\nlog       %s, %s\nenrolment tokens live for up to %s\n",
		cfg.Dir, at, endpoint, cfg.Cloud.Region, log.Level, log.Format, broker.MaxTokenTTL)
	return err
}
