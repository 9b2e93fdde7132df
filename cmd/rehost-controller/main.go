// Command rehost-controller is the controller's daemon: it keeps the records of a fleet and
// takes it through its migration.
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
