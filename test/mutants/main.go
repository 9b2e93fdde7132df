// Command mutants shows that the stamp test and the fault tests bite. Each mutant is the product with one rule of its
// engine broken, by a build tag; a test must find a replica that differs from its frozen source. It ends with an error
// when a mutant survives.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	tries = 3
	// tryLimit bounds one run of a test. It is generous: a test that is cut off leaves mounts behind.
	tryLimit = 8 * time.Minute
	// found is how a test says that it found a replica that is wrong. Any other failure kills no mutant.
	found = "DIFFERENCE at point"
)

// mutant is one broken rule, and the test that must notice.
type mutant struct {
	tag, rule, folder, test string
	env                     []string
}

var mutants = []mutant{
	{"mutant_mark_at_issue", "a write is marked when it is issued, not when it has completed", "test/stamp", "TestEveryPointEqualsTheFrozenSource/btf", []string{"REHOST_POINTS=100", "REHOST_RATE=4"}},
	{"mutant_read_before_swap", "a granule is read before its mark is taken", "test/stamp", "TestEveryPointEqualsTheFrozenSource/btf", []string{"REHOST_POINTS=100", "REHOST_RATE=4"}},
	{"mutant_ack_before_flush", "the checkpoint is written before the volumes are flushed", "test/chaos", "TestKilledProcessesChangeNoPoint", []string{"REHOST_KILLS=30", "REHOST_VICTIM=replication server"}},
	{"mutant_no_digest", "neither the chain's digest nor a content's hash is checked", "test/chaos", "TestBrokerFaultsChangeNoPoint", []string{"REHOST_FAULTS=130", "REHOST_FAULT=a message is changed"}},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var errs []error
	for _, m := range mutants {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.tag) {
			continue
		}
		if err := m.kill(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.tag, err))
			fmt.Printf("%-24s SURVIVES: %v\n", m.tag, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

// kill builds the mutant's test and runs it until it finds a difference.
func (m mutant) kill(ctx context.Context) error {
	if err := m.exists(); err != nil {
		return err
	}
	binary, err := filepath.Abs(filepath.Join("build", "mutants", m.tag+".test"))
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "test", "-tags", m.tag, "-c", "-o", binary, "./"+m.folder)
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	for try := range tries {
		start := time.Now()
		run := exec.CommandContext(ctx, binary, "-test.run", m.test, "-test.v", "-test.timeout", tryLimit.String())
		run.Dir, run.Env = m.folder, append(os.Environ(), m.env...)
		run.WaitDelay = 10 * time.Second
		out, err := run.CombinedOutput()
		if run.ProcessState == nil {
			return err
		}
		log := binary + ".log"
		if err := os.WriteFile(log, out, 0o600); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		took := time.Since(start).Round(time.Second)
		if _, how, ok := strings.Cut(string(out), found); ok && !run.ProcessState.Success() {
			how, _, _ = strings.Cut(how, "\n")
			fmt.Printf("%-24s killed after %s by %s: %s%s\n", m.tag, took, m.test, found, how)
			return nil
		}
		fmt.Printf("%-24s try %d of %d: no difference found in %s (%s; %s)\n", m.tag, try+1, tries, took, run.ProcessState, log)
	}
	return fmt.Errorf("%s, and no test notices in %d tries", m.rule, tries)
}

// exists checks that the tag changes something, since an unknown one is no error of the compiler.
func (m mutant) exists() error {
	errFound := errors.New("found")
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(text), "//go:build "+m.tag+"\n") {
			return errFound
		}
		return err
	})
	if errors.Is(err, errFound) {
		return nil
	}
	if err == nil {
		err = errors.New("no file here has this build tag")
	}
	return err
}
