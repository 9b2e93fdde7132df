// The writer keeps a ledger below a root folder until SIGTERM; then it finishes the
// record at hand, prints its number and exits 0. It is a process of its own so that
// it may be killed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rehost/test/writer"
)

func main() {
	var o writer.Options
	flag.StringVar(&o.Root, "root", "", "root filesystem of the server")
	flag.IntVar(&o.Rate, "rate", 20, "records a second")
	flag.Int64Var(&o.ChurnBytes, "churn", 3<<19, "bytes a second written to other files; negative: none")
	flag.Parse()
	if o.Root == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	last, err := writer.Run(ctx, o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Println(last)
}
