// Command kernels runs the tests of the tracker under kernels of Debian's releases, in emulated machines: a source host's
// kernel is seldom the one that the tests run on. It ends with an error when a test fails under one of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// bound is the time that one kernel may take; an emulated one needs six to ten minutes.
const bound = 20 * time.Minute

// kernel is a release's kernel and the arguments that the tests get under it.
type kernel struct {
	suite, args string
}

var kernels = []kernel{
	{"bullseye", "-test.run TestTheClassic"}, // 5.10: type information, but not the atomic operations that btf needs
	{"bookworm", ""},
	{"trixie", ""},
}

func main() {
	args := flag.String("args", "", `arguments for the tests instead of the usual ones, as in "-test.run TestMarks -tier classic"`)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var errs []error
	for _, k := range kernels {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), k.suite) {
			continue
		}
		if *args != "" {
			k.args = *args
		}
		if err := k.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.suite, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func (k kernel) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	image, err := fetch(ctx, k.suite)
	if err != nil {
		return err
	}
	initramfs, err := image.initramfs(ctx, k.args)
	if err != nil {
		return err
	}
	fmt.Printf("%s: Linux %s\n", k.suite, image.version)
	start := time.Now()
	passed, skipped, err := boot(ctx, os.Stdout, image.path, initramfs)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d passed, %d skipped: %s (%s)\n", k.suite, passed, len(skipped), strings.Join(skipped, ", "), time.Since(start).Round(time.Second))
	return nil
}
