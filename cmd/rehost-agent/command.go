package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"rehost/agent"
	"rehost/internal/config"
	"rehost/internal/hint"
	"rehost/internal/program"
	"rehost/internal/version"
	"rehost/protocol"
)

const (
	defaultConfig = "/etc/rehost/agent.hcl"
	commands      = "use one of: rehost-agent run, check, enrol, remove, version"
)

// noArgs refuses what a command does not take.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return program.TooMuch(c.CommandPath(), args[0])
	}
	return nil
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use: "rehost-agent", Short: "Replicate this host's disks", SilenceErrors: true, SilenceUsage: true,
		Long: "The agent tracks writes to this host's disks and ships them to the replica.\n" +
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
	var path string
	add := func(use, short string, do func(ctx context.Context) error) {
		c := &cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(c *cobra.Command, _ []string) error { return do(c.Context()) }}
		c.Flags().StringVar(&path, "config", defaultConfig, "configuration `file`")
		root.AddCommand(c)
	}
	add("run", "Run until a signal comes or the controller disconnects the server", func(ctx context.Context) error { return runDaemon(ctx, path, stderr) })
	add("check", "Load the configuration, look at the disks, and print what is in effect", func(context.Context) error { return check(path, stdout) })
	add("enrol", "Change the one-time token into this host's identity", func(ctx context.Context) error { return enrol(ctx, path, stdout) })
	add("remove", "End the tracking and remove the agent's state and identity from this host", func(ctx context.Context) error { return remove(ctx, path, stdout) })
	root.AddCommand(&cobra.Command{Use: "version", Short: "Print the version", Args: noArgs, RunE: func(*cobra.Command, []string) error {
		_, err := fmt.Fprintln(stdout, version.String())
		return err
	}})
	root.AddCommand(&cobra.Command{Use: "freeze-helper", Hidden: true, DisableFlagParsing: true, RunE: func(c *cobra.Command, args []string) error {
		return agent.FreezeHelper(c.Context(), args, stdin, stdout)
	}})
	root.AddCommand(&cobra.Command{Use: "survey-helper", Hidden: true, Args: noArgs, RunE: func(*cobra.Command, []string) error {
		return agent.SurveyHelper(stdin, stdout)
	}})
	for i, a := range args { // as the units write it
		if a == "-config" || strings.HasPrefix(a, "-config=") {
			args[i] = "-" + a
		}
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

// load reads the file into the agent's own configuration.
func load(path string) (agent.Config, config.Agent, error) {
	file, err := config.LoadAgent(path)
	if err != nil {
		return agent.Config{}, file, err
	}
	ca, err := os.ReadFile(file.Bus.CAFile)
	if err != nil {
		return agent.Config{}, file, hint.Wrap(fmt.Errorf("read the bus's authority: %w", err), "copy the controller's ca.pem there, or correct bus.ca_file in "+path)
	}
	return agent.Config{
		Server: file.Server, Bus: protocol.Bus{Servers: file.Bus.Servers, CA: string(ca)}, TokenFile: file.TokenFile,
		StateDir: file.StateDir, RunDir: file.RunDir, PinDir: file.PinDir, Disks: file.Disks, Tracker: file.Tracker, Window: file.Window,
		Hooks: agent.Hooks{
			Fence: file.Hooks.Fence, Unfence: file.Hooks.Unfence, PreFreeze: file.Hooks.PreFreeze, PostThaw: file.Hooks.PostThaw,
			Timeout: file.Hooks.Timeout,
		},
		FreeSpace: file.FreeSpace, Verify: verifyOf(file.Verify),
		Freeze:     agent.Freeze{Budget: file.Freeze.Budget, Cap: file.Freeze.Cap, Memory: file.Freeze.Memory},
		FrozenHook: file.Debug.FrozenHook,
	}, file, nil
}

// cores is how many cores the agent may keep busy: the host has its own work to do. What blocks in the kernel, such as a
// read, does not count.
func cores(wanted int) int {
	if wanted > 0 {
		return wanted
	}
	return (runtime.NumCPU() + 1) / 2
}

// verifyOf turns "only on request" into what package agent calls it.
func verifyOf(v config.Verify) agent.Verify {
	if v.Every == 0 {
		v.Every = -1
	}
	return agent.Verify{Every: v.Every, Bandwidth: v.Bandwidth}
}

func runDaemon(ctx context.Context, path string, stderr io.Writer) error {
	cfg, file, err := load(path)
	if err != nil {
		return err
	}
	log := file.Log
	runtime.GOMAXPROCS(cores(file.CPUs))
	f, ok := stderr.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	logger := hclog.New(&hclog.LoggerOptions{
		Name: "agent", Level: hclog.LevelFromString(log.Level), JSONFormat: log.Format == "json" && !terminal, Output: stderr,
	})
	notify := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			logger.Debug("notify systemd", "error", err)
		}
	}
	return agent.Run(ctx, cfg, agent.Deps{Logger: logger, Notify: notify})
}

// check says whether the agent could run with this file.
func check(path string, stdout io.Writer) error {
	cfg, _, err := load(path)
	if err != nil {
		return err
	}
	if err := agent.Check(cfg); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "server  %s\nbus     %v\ndisks   %v\nstate   %s, %s, %s\n", cfg.Server, cfg.Bus.Servers, cfg.Disks, cfg.StateDir, cfg.RunDir, cfg.PinDir)
	return err
}

func enrol(ctx context.Context, path string, stdout io.Writer) error {
	cfg, _, err := load(path)
	if err != nil {
		return err
	}
	identity, err := agent.Enrol(ctx, cfg)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "this host is enrolled as %s\n", identity.Name)
	return err
}

func remove(ctx context.Context, path string, stdout io.Writer) error {
	cfg, _, err := load(path)
	if err != nil {
		return err
	}
	if err := agent.Remove(ctx, cfg); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s is not tracked any more, and its identity is removed from this host\n", cfg.Server)
	return err
}
