// The demo migrates a real Debian server on this machine, from an attached disk that
// is written to all the time to an instance that boots from NVMe, by the commands that
// a user has. It ends with PASS or FAIL and writes build/demo/report.json.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"rehost/internal/program"
)

func main() {
	// No signal cuts the clean-up short, however many come: it is bounded.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		program.Report(os.Stderr, err)
		os.Exit(1)
	}
}
