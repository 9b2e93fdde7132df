// The demo migrates a real Debian server on this machine, from an attached disk that
// is written to all the time to an instance that boots from NVMe, by the commands that
// a user has. It ends with PASS or FAIL and writes build/demo/report.json.
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
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
		return
	case interrupted:
		fmt.Fprintln(os.Stderr, "interrupted; everything was taken away again")
	default:
		fmt.Fprintln(os.Stderr, "error:", err)
		if text := hint.Of(err); text != "" {
			fmt.Fprintln(os.Stderr, "hint:", text)
		}
	}
	os.Exit(1)
}
