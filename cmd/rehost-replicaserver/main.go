// Command rehost-replicaserver runs in the staging subnet: it writes the servers' replicas to volumes.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rehost/internal/hint"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // after the first signal a second one kills
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	if h := hint.Of(err); h != "" {
		fmt.Fprintln(os.Stderr, "hint:", h)
	}
	os.Exit(exitCode(err))
}
