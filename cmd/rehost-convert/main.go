// Command rehost-convert makes an offline Linux guest boot in EC2. As the first
// process of a conversion instance it takes its order from the metadata service;
// elsewhere it does the same as a unit of systemd.
package main

import (
	"context"
	"fmt"
	"os"

	"rehost/convert/machine"
	"rehost/convert/script"
	"rehost/internal/program"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == script.HelperArg {
		os.Exit(script.HelperMain()) // before all else: it is the first process of its namespace, too
	}
	if os.Getpid() == 1 {
		fmt.Fprintln(os.Stderr, "error: switch the power off:", machine.Run())
		select {} // the kernel panics when its first process ends
	}
	os.Exit(program.Run(os.Stderr, func(ctx context.Context) error {
		return run(ctx, os.Args[1:], os.Stdout)
	}))
}
