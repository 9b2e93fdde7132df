// Command rehost is the operator's command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"rehost/cmd/rehost/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal a second one kills.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, cli.System(), os.Args[1:]))
}
