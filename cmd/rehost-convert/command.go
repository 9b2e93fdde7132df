package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"rehost/convert"
	"rehost/convert/storage"
	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

// errUsage marks a wrong command line: exit code 2.
var errUsage = errors.New("usage")

const usage = `rehost-convert makes an offline Linux guest boot in EC2.

  rehost-convert plan  --disk IMAGE [--disk IMAGE ...] [--network dhcp|keep] [-o json]   say what would change
  rehost-convert apply --disk IMAGE [--disk IMAGE ...] [--network dhcp|keep] [-o json]   change it
  rehost-convert undo  --disk IMAGE [--disk IMAGE ...]                                   give every file its bytes back
  rehost-convert version

IMAGE is a raw image file or a block device, the boot disk first. Work on a copy.
Exit codes: 0 done, 1 failed, 2 wrong command line.
`

func exitCode(err error) int {
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

type options struct {
	disks   []string
	network string
	output  string
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		_, _ = io.WriteString(stderr, usage)
		return fmt.Errorf("%w: no command given", errUsage)
	}
	if args[0] == "version" {
		_, err := fmt.Fprintln(stdout, "rehost-convert", version.String())
		return err
	}
	if args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		_, err := io.WriteString(stdout, usage)
		return err
	}
	var o options
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("disk", "", func(v string) error { o.disks = append(o.disks, v); return nil })
	flags.StringVar(&o.network, "network", "dhcp", "")
	flags.StringVar(&o.output, "o", "text", "")
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if err := o.check(flags.Args()); err != nil {
		return err
	}
	switch args[0] {
	case "plan", "apply":
		return convertDisks(ctx, o, args[0] == "plan", stdout, stderr)
	case "undo":
		return undo(ctx, o, stderr)
	}
	return fmt.Errorf("%w: unknown command %q", errUsage, args[0])
}

func (o options) check(rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%w: unexpected argument %q", errUsage, rest[0])
	case len(o.disks) == 0:
		return hint.Wrap(fmt.Errorf("%w: no disk given", errUsage), "name the image: --disk FILE")
	case o.network != "dhcp" && o.network != "keep":
		return fmt.Errorf("%w: --network is dhcp or keep, not %q", errUsage, o.network)
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("%w: -o is text or json, not %q", errUsage, o.output)
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
