// Command build-appliance builds the disk image of a conversion instance and
// prints its path.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"rehost/appliance"
	"rehost/internal/hint"
)

func main() {
	var o appliance.Options
	flag.StringVar(&o.CacheDir, "cache", "", "cache folder (default: rehost in the user's cache folder)")
	flag.StringVar(&o.Convert, "convert", "bin/rehost-convert", "the statically linked program rehost-convert")
	flag.Parse()
	o.Progress = func(s string) { fmt.Fprintln(os.Stderr, s) }
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	path, err := appliance.Build(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		if h := hint.Of(err); h != "" {
			fmt.Fprintln(os.Stderr, "hint:", h)
		}
		os.Exit(1)
	}
	fmt.Println(path)
}
