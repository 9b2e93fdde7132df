// Command rehost is the operator's command line.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"rehost/cmd/rehost/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal kills, but not one of the same moment: some supervisors signal a process and then its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	os.Exit(cli.Main(ctx, cli.System(), os.Args[1:]))
}
