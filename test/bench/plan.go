package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rehost/internal/command"
)

const (
	planServers = 10_000
	planLimit   = 5.0 // seconds
)

// planning measures rehost plan of a configuration of 10,000 servers, from the command to its last line, through a controller
// and a local cloud: of all that is new, or, applied, of one setting that changes in it.
func planning(applied bool) func(context.Context, *env, string) (result, error) {
	return func(ctx context.Context, e *env, name string) (result, error) {
		dir := filepath.Join(e.work, "fleet")
		if err := writeFleet(dir, planServers, 25); err != nil {
			return result{}, err
		}
		contextFile, err := startDev(ctx, e)
		if err != nil {
			return result{}, err
		}
		rehost := func(args ...string) (string, error) {
			out, err := command.Run(ctx, filepath.Join(e.bin, "rehost"), append(args, "--context", contextFile)...)
			return string(out), err
		}
		want := "to create"
		if applied {
			if _, err := rehost("apply", dir, "--yes"); err != nil {
				return result{}, err
			}
			if err := writeFleet(dir, planServers, 30); err != nil {
				return result{}, err
			}
			want = "to update"
		}
		var took []float64
		for round := range e.rounds {
			from := time.Now()
			text, err := rehost("plan", dir)
			if err != nil {
				return result{}, err
			}
			took = append(took, time.Since(from).Seconds())
			say("  round %d of %d: %.2f s, %d lines: %s", round+1, e.rounds, took[round], strings.Count(text, "\n"), counts(text))
			if sum := ", " + counts(text); !strings.Contains(sum, want) || strings.Contains(sum, ", 0 "+want) {
				return result{}, fmt.Errorf("the plan has nothing %s: %s", want, counts(text))
			}
		}
		return within(name, "s", took, planLimit), nil
	}
}

// counts is the line of a plan that sums it up.
func counts(plan string) string {
	_, text, _ := strings.Cut(plan, "\nPlan: ")
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// startDev runs a controller with a local cloud until the benchmark ends.
func startDev(ctx context.Context, e *env) (contextFile string, err error) {
	data := filepath.Join(e.work, "dev")
	contextFile = filepath.Join(data, "context.json")
	p, err := start("rehost dev", filepath.Join(e.work, "dev.log"), nil, nil, nil,
		filepath.Join(e.bin, "rehost"), "dev", "--data", data, "--pool-size", "1GiB")
	if err != nil {
		return "", err
	}
	e.later(p.stop)
	for {
		if _, err := os.Stat(contextFile); err == nil {
			return contextFile, nil
		}
		select {
		case <-p.ended:
			return "", fmt.Errorf("rehost dev ended: %w: %s", p.err, tail(p.log))
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// writeFleet writes a configuration with a server for each line of a CSV file: applications of five, and ten waves.
func writeFleet(dir string, servers, concurrency int) error {
	var rows strings.Builder
	rows.WriteString("server,application,wave,disks\n")
	for i := range servers {
		_, _ = fmt.Fprintf(&rows, "server-%05d,app-%04d,wave-%d,/dev/sda /dev/sdb\n", i, i/5, i/5%10)
	}
	hcl := fmt.Sprintf(`
locals {
  rows = csvdecode(file("servers.csv"))
  apps = { for row in local.rows : row.application => row.server... }
  plan = { for row in local.rows : row.wave => row.application... }
}

replication "default" {}

launch "default" {
  instance_type = "auto"
}

dynamic "server" {
  for_each = local.rows
  labels   = [server.value.server]
  content {
    disks = split(" ", server.value.disks)
  }
}

dynamic "application" {
  for_each = local.apps
  labels   = [application.key]
  content {
    servers = application.value
  }
}

dynamic "wave" {
  for_each = local.plan
  labels   = [wave.key]
  content {
    applications = distinct(wave.value)
    concurrency  = %d
  }
}
`, concurrency)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "servers.csv"), []byte(rows.String()), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "fleet.hcl"), []byte(hcl), 0o600)
}
