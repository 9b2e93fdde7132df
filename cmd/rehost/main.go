// Command rehost is the operator's command line.
package main

import (
	"os"

	"rehost/cmd/rehost/internal/cli"
	"rehost/internal/program"
)

func main() {
	ctx, stop := program.Context()
	code := cli.Main(ctx, cli.System(), os.Args[1:])
	stop()
	os.Exit(code)
}
