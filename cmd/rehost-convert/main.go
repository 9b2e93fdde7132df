// Command rehost-convert makes an offline Linux guest boot in EC2. As the first
// process of a conversion instance it takes its order from the metadata service;
// from a shell it works on raw image files.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rehost/convert/machine"
	"rehost/internal/hint"
)

func main() {
	if os.Getpid() == 1 {
		fmt.Fprintln(os.Stderr, "error: switch the power off:", machine.Run())
		select {} // the kernel panics when its first process ends
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "error:", err)
	if h := hint.Of(err); h != "" {
		fmt.Fprintln(os.Stderr, "hint:", h)
	}
	stop()
	os.Exit(exitCode(err))
}
