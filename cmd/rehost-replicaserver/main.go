// Command rehost-replicaserver runs in the staging subnet: it writes the servers' replicas to volumes.
package main

import (
	"context"
	"os"

	"rehost/internal/program"
)

func main() {
	os.Exit(program.Run(os.Stderr, func(ctx context.Context) error {
		return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}))
}
