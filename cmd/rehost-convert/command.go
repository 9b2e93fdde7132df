package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"rehost/convert"
	"rehost/convert/storage"
	"rehost/internal/hint"
	"rehost/internal/program"
	"rehost/internal/version"
	"rehost/protocol"
)

const usage = `rehost-convert makes an offline Linux guest boot in EC2.

  rehost-convert plan  --disk IMAGE [--disk IMAGE ...] [--network dhcp|keep] [-o json]   say what would change
  rehost-convert apply --disk IMAGE [--disk IMAGE ...] [--network dhcp|keep] [-o json]   change it
  rehost-convert undo  --disk IMAGE [--disk IMAGE ...]                                   give every file its bytes back
  rehost-convert version

IMAGE is a raw image file or a block device, the boot disk first. Work on a copy.
Exit codes: 0 done, 1 failed, 2 wrong command line.
`

const commands = "use one of: rehost-convert plan, apply, undo, version; see rehost-convert --help"

// wrong is a wrong command line.
func wrong(next, format string, args ...any) error {
	return program.Usage(hint.New(fmt.Sprintf(format, args...), next))
}

type options struct {
	disks   []string
	network string
	output  string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return wrong(commands, "no command given")
	}
	if args[0] == "version" {
		_, err := fmt.Fprintln(stdout, "rehost-convert", version.String())
		return err
	}
	if args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		_, err := io.WriteString(stdout, usage)
		return err
	}
	if !slices.Contains([]string{"plan", "apply", "undo"}, args[0]) {
		return wrong(commands, "unknown command %q", args[0])
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("disk", "", func(v string) error { o.disks = append(o.disks, v); return nil })
	flags.StringVar(&o.network, "network", "dhcp", "")
	flags.StringVar(&o.output, "o", "text", "")
	if err := flags.Parse(args[1:]); err != nil {
		return program.Usage(hint.Wrap(err, "see rehost-convert --help"))
	}
	if err := o.check(flags.Args()); err != nil {
		return err
	}
	if args[0] == "undo" {
		return undo(ctx, o, stderr)
	}
	return convertDisks(ctx, o, args[0] == "plan", stdout, stderr)
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return wrong("name images with --disk FILE", "unexpected argument %q", rest[0])
	case len(o.disks) == 0:
		return wrong("name the image: --disk FILE", "no disk given")
	case o.network != "dhcp" && o.network != "keep":
		return wrong("use --network dhcp or --network keep", "unknown network %q", o.network)
	case o.output != "text" && o.output != "json":
		return wrong("use -o text or -o json", "unknown output %q", o.output)
	case slices.ContainsFunc(o.disks, func(d string) bool { _, err := os.Stat(d); return err != nil }):
		missing := o.disks[slices.IndexFunc(o.disks, func(d string) bool { _, err := os.Stat(d); return err != nil })]
		return hint.New("no image "+missing, "name a raw image file or a block device with --disk")
	case os.Geteuid() != 0:
		return hint.New("not root", "run it with sudo: mounting the guest's filesystems needs root")
	}
	return nil
}

func (o options) devices() []storage.Device {
	var devices []storage.Device
	for i, d := range o.disks {
		devices = append(devices, storage.Device{Volume: d, Boot: i == 0, Path: d})
	}
	return devices
}

func convertDisks(ctx context.Context, o options, planOnly bool, stdout, stderr io.Writer) error {
	job := storage.Job{Name: "shell", Devices: o.devices(), Settings: protocol.ConversionSettings{Network: o.network}, PlanOnly: planOnly}
	r := storage.Convert(ctx, job, storage.Options{Progress: func(s string) { _, _ = fmt.Fprintln(stderr, s) }})
	if o.output == "json" {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(r); err != nil {
			return err
		}
	} else if err := printText(stdout, r); err != nil {
		return err
	}
	if r.Problem != nil {
		return hint.Wrap(r.Problem, r.Problem.Hint)
	}
	return nil
}

func printText(w io.Writer, r protocol.ConversionReport) error {
	for _, f := range r.Findings {
		if _, err := fmt.Fprintf(w, "%s %s: %s\n       hint: %s\n", f.Severity, f.Code, f.Message, f.Hint); err != nil {
			return err
		}
	}
	for _, c := range r.Changes {
		if _, err := fmt.Fprintf(w, "%-6s %s\n       %s\n", c.Action, c.Path, c.Reason); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d changes, %.2f s\n", len(r.Changes), r.Seconds)
	return err
}

func undo(ctx context.Context, o options, stderr io.Writer) (err error) {
	g, err := storage.Mount(ctx, o.devices(), storage.Options{Progress: func(s string) { _, _ = fmt.Fprintln(stderr, s) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	return convert.Undo(g.Root)
}
