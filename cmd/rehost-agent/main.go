// Command rehost-agent runs on a source host: it tracks writes and ships blocks.
package main

import (
	"context"
	"os"

	"rehost/internal/program"
)

func main() {
	os.Exit(program.Run(os.Stderr, func(ctx context.Context) error {
		return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}))
}
