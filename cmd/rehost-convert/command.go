package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"rehost/convert/machine"
	"rehost/internal/hint"
	"rehost/internal/program"
	"rehost/internal/version"
)

const usage = `rehost-convert converts the volumes of a conversion instance, by the order in its user data.

  rehost-convert run       as a unit of systemd; the appliance starts it as its first process
  rehost-convert check     see that the programs that it may need are installed
  rehost-convert version

To convert an image file: rehost convert --help.
Exit codes: 0 done, 1 failed, 2 wrong command line.
`

const commands = "use one of: rehost-convert run, check, version; for an image file rehost convert"

// wrong is a wrong command line.
func wrong(format string, args ...any) error {
	return program.Usage(hint.New(fmt.Sprintf(format, args...), commands))
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return wrong("no command given")
	}
	if len(args) > 1 {
		return wrong("unexpected argument %q", args[1])
	}
	switch args[0] {
	case "version":
		_, err := fmt.Fprintln(stdout, "rehost-convert", version.String())
		return err
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, usage)
		return err
	case "check":
		return machine.CheckTools()
	case "run":
		console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("open the console, where the report goes: %w", err)
		}
		defer func() { _ = console.Close() }()
		return machine.RunUnit(ctx, console)
	}
	return wrong("unknown command %q", args[0])
}
