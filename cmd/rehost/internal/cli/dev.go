package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"rehost/controller"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/localcloud"
	"rehost/protocol"
)

// devOptions are the flags of dev.
type devOptions struct {
	data   string
	listen string
	level  string
	cloud  cloudOptions
}

func newDev(env Env) *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use: "dev", Short: "Run controller, bus and a local cloud in this process, on this machine",
		Long: "Run everything that is not a source on this machine: the controller with its bus, and a local cloud with real\n" +
			"volumes and QEMU instances. It ends with Ctrl-C and leaves no process, mount or loop device; the data folder stays,\n" +
			"and the next start goes on with it.",
		Example: "  rehost dev --image rehost-convert=build/appliance.img\n  rehost dev --data /var/lib/rehost-dev --listen 127.0.0.1:14222 --cloud-listen 127.0.0.1:14566",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&o.data, "data", ".rehost", "data `folder`")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:4222", "`address` of the bus")
	cmd.Flags().StringVar(&o.level, "log-level", "info", "trace, debug, info, warn or error")
	o.cloud.flags(cmd, "cloud-listen")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDev(cmd.Context(), env, &o) }
	return cmd
}

func runDev(ctx context.Context, env Env, o *devOptions) error {
	level := hclog.LevelFromString(o.level)
	if level == hclog.NoLevel {
		return usage(hint.New(fmt.Sprintf("%q is not a log level", o.level), "use trace, debug, info, warn or error"))
	}
	data, err := filepath.Abs(o.data)
	if err != nil {
		return fmt.Errorf("find %s: %w", o.data, err)
	}
	clouds, err := o.cloud.config(filepath.Join(data, "cloud"))
	if err != nil {
		return err
	}
	if err := preflight(ctx, map[string]string{"--listen": o.listen, "--cloud-listen": o.cloud.listen}); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return hint.Wrap(fmt.Errorf("make data folder: %w", err), "name a folder you may write to with --data")
	}
	log, err := os.OpenFile(filepath.Join(data, "dev.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }() // nothing is written any more
	d := &dev{env: env, data: data, listen: o.listen, clouds: clouds, log: devLogger(level, log, env.Stderr)}
	return d.run(ctx)
}

// devLogger logs everything to the file, and warnings and errors to the terminal too.
func devLogger(level hclog.Level, file, terminal io.Writer) hclog.Logger {
	log := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: level, Output: file, JSONFormat: true})
	log.RegisterSink(hclog.NewSinkAdapter(&hclog.LoggerOptions{Level: hclog.Warn, Output: terminal}))
	return log
}

// dev is the roles in one process.
type dev struct {
	env    Env
	data   string
	listen string
	clouds localcloud.Config
	log    hclog.Logger
}

// run ends when ctx does, or when one of the roles fails. The controller ends first, so that it does not see its cloud go.
func (d *dev) run(ctx context.Context) error {
	cloudCtx, endCloud := context.WithCancel(context.WithoutCancel(ctx))
	defer endCloud()
	ready := make(chan localcloud.Info, 1)
	cloudEnded := make(chan error, 1)
	go func() { // ends with cloudCtx, and is waited for below
		cloudEnded <- localcloud.Run(cloudCtx, d.clouds, localcloud.Deps{Log: d.log.Named("localcloud"), Ready: func(i localcloud.Info) { ready <- i }})
	}()
	select {
	case err := <-cloudEnded:
		return wrapRole("local cloud", err)
	case <-ctx.Done():
		endCloud()
		return wrapRole("local cloud", <-cloudEnded)
	case info := <-ready:
		controllerCtx, endController := context.WithCancel(ctx)
		defer endController()
		controllerEnded := make(chan error, 1)
		go func() { controllerEnded <- d.controller(controllerCtx, info) }() // ends with controllerCtx, and is waited for below
		select {
		case err := <-controllerEnded:
			endCloud()
			return errors.Join(wrapRole("controller", err), wrapRole("local cloud", <-cloudEnded))
		case err := <-cloudEnded:
			endController()
			return errors.Join(wrapRole("local cloud", err), wrapRole("controller", <-controllerEnded))
		}
	}
}

func wrapRole(role string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", role, err)
}

func (d *dev) contextFile() string { return filepath.Join(d.data, "context.json") }

func (d *dev) controller(ctx context.Context, info localcloud.Info) error {
	// Whoever waits for the context file may rely on it: it appears when the controller answers.
	if err := os.Remove(d.contextFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the last run's context: %w", err)
	}
	operator := filepath.Join(d.data, "controller", "operator.json")
	cfg := controller.Config{
		Dir: filepath.Dir(operator), Listen: d.listen, OperatorContext: operator,
		Cloud: cloud.Config{Endpoint: info.Endpoint, Region: info.Region, CredentialsFile: info.CredentialsFile, Profile: "default", Logger: d.log.Named("cloud")},
	}
	return controller.Run(ctx, cfg, controller.Deps{Logger: d.log.Named("controller"), Ready: func(at protocol.Bus) {
		found, err := bus.LoadContext(operator)
		if err == nil {
			err = bus.SaveContext(d.contextFile(), found)
		}
		if err != nil {
			d.log.Error("write the operator's context", "error", err)
			return
		}
		d.welcome(at, info)
	}})
}

// welcome says that all is up and what to do next.
func (d *dev) welcome(at protocol.Bus, info localcloud.Info) {
	var p printer
	p.line("rehost dev is ready: bus %s, cloud %s", strings.Join(at.Servers, ", "), info.Endpoint)
	p.line("")
	p.line("  context  %s", d.contextFile())
	p.line("  log      %s", filepath.Join(d.data, "dev.log"))
	p.line("")
	p.line("Next, in another terminal:")
	p.line("  export REHOST_CONTEXT=%s", d.contextFile())
	p.line("  rehost apply configs/small                                 declare the fleet")
	p.line("  rehost server token web-1 --out enrol/web-1 --disk /dev/sda")
	p.line("  rehost-agent run --config enrol/web-1/agent.hcl            on the server: replicate it")
	p.line("  rehost status --watch                                      see how far it is")
	p.line("")
	p.line("Ctrl-C ends it; what it knows stays in %s.", d.data)
	_ = p.flush(d.env.Stdout) // it runs, whoever reads this
}
