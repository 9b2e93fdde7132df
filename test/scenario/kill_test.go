// Package scenario runs the whole system as real processes and disturbs it. Every test
// works on disks and folders that it made, and takes them away.
package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/migration"
)

// repo is the checkout, seen from this package.
const repo = "../.."

// start brings a split migration to the moment when the agent has just begun to replicate.
func start(t *testing.T) *migration.Migration {
	t.Helper()
	t.Parallel() // a migration has devices, ports and programs of its own
	if os.Geteuid() != 0 {
		t.Skip("needs root: it traces the kernel and attaches disks")
	}
	bin := t.TempDir()
	if _, err := command.RunIn(t.Context(), repo, nil, "go", "build", "-trimpath", "-o", bin+"/", "./cmd/..."); err != nil {
		t.Fatal(err)
	}
	m, err := migration.New(t.Context(), migration.Config{
		Repo: repo, Bin: bin, Dir: filepath.Join(t.TempDir(), "work"), Out: t.Output(), Split: true,
		Notice: func(text string) { t.Log(text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("take everything down: %v", err)
		}
		left, err := migration.HostLeftovers(context.Background(), m.Dir())
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
		if t.Failed() {
			for _, p := range []*migration.Process{m.Agent, m.Controller, m.Cloud} {
				if p != nil {
					t.Logf("%s:\n%s", p.Name, p.Tail(30))
				}
			}
		}
	})
	for _, f := range []func(context.Context) error{m.BuildWriter, m.Images, m.StartCloud, m.StartSource, m.Apply, m.StartAgent} {
		if err := f(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// until polls until ok, or fails with what was last seen.
func until(t *testing.T, what string, limit time.Duration, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		good, seen := ok()
		if good {
			t.Logf("%s: %s", what, seen)
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s; last seen: %s", what, limit, seen)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// replicated waits until the agent has made at least the given bytes durable.
func replicated(t *testing.T, m *migration.Migration, atLeast int64) {
	t.Helper()
	until(t, fmt.Sprintf("replicated %d MiB", atLeast>>20), 3*time.Minute, func() (bool, string) {
		s, err := m.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		if s.Agent == nil || len(s.Agent.Disks) == 0 {
			return false, string(s.Replication)
		}
		d := s.Agent.Disks[0]
		return d.Replicated >= atLeast, fmt.Sprintf("%s, %d of %d MiB", s.Replication, d.Replicated>>20, d.SizeBytes>>20)
	})
}

func waitFor(t *testing.T, m *migration.Migration, want protocol.Replication) {
	t.Helper()
	until(t, string(want), 4*time.Minute, func() (bool, string) {
		s, err := m.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		return s.Replication == want, string(s.Replication) + " " + s.Waiting
	})
}

// killReplicaServer kills the replication server's process; the local cloud starts it again, as
// EC2 starts nothing: there systemd does.
func killReplicaServer(t *testing.T, m *migration.Migration) {
	t.Helper()
	signalReplicaServer(t, m, syscall.SIGKILL)
}

func signalReplicaServer(t *testing.T, m *migration.Migration, signal syscall.Signal) {
	t.Helper()
	entries, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, exe := range entries {
		target, err := os.Readlink(exe)
		if err != nil || target != filepath.Join(m.Bin(), "rehost-replicaserver") {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(exe, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, signal); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s to the replication server, process %d", signal, pid)
		return
	}
	t.Fatal("no replication server runs")
}

// jobReaches waits until the newest job has begun the named step.
func jobReaches(t *testing.T, m *migration.Migration, step string) {
	t.Helper()
	until(t, "job at step "+step, 3*time.Minute, func() (bool, string) {
		j, err := m.Job(t.Context())
		if err != nil {
			return false, err.Error()
		}
		seen := string(j.Status)
		for _, server := range j.Servers {
			for _, s := range server.Steps {
				seen = s.Name + " " + string(s.Status)
				if s.Name == step && s.Status != protocol.StepNotStarted {
					return true, seen
				}
			}
		}
		return false, seen
	})
}

func jobSucceeds(t *testing.T, m *migration.Migration) {
	t.Helper()
	until(t, "job completed", 6*time.Minute, func() (bool, string) {
		j, err := m.Job(t.Context())
		if err != nil {
			return false, err.Error()
		}
		if !j.Status.Ended() {
			return false, string(j.Status)
		}
		for _, s := range j.Servers {
			if s.Status != protocol.StepSucceeded {
				t.Fatalf("the job ended, and %s is %s: %+v", s.Server, s.Status, s.Problem)
			}
		}
		return true, j.ID
	})
}

// One kill -9 of each role in one migration: the agent and the replication server within the
// initial sync and again afterwards, the controller in the middle of a test's conversion. The
// migration completes with a cutover, and the snapshot is the source as it was.
func TestAMigrationSurvivesKillsOfEveryRole(t *testing.T) {
	m := start(t)

	replicated(t, m, 300<<20)
	if err := m.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := m.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	replicated(t, m, 900<<20)
	killReplicaServer(t, m)
	waitFor(t, m, protocol.ReplicationContinuous)

	if err := m.Agent.Kill(); err != nil {
		t.Fatal(err)
	}
	killReplicaServer(t, m)
	if err := m.StartAgent(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, m, protocol.ReplicationContinuous)

	addScripts(t, m)
	if err := m.Command(t.Context(), "wave", "test", migration.Wave, "--yes", "--detach"); err != nil {
		t.Fatal(err)
	}
	jobReaches(t, m, "convert")
	if err := m.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := m.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobSucceeds(t, m)
	scriptsRan(t, m)
	equalAtPoint(t, m)
	cutOver(t, m)
}

// owned are scripts of the server's owner; that of the first boot says what that of the conversion left, and a check waits for it.
const owned = `
script "leave" {
    phase   = "after-conversion"
    content = "#!/bin/sh\necho \"$REHOST_PURPOSE of $REHOST_SERVER\" | tee /etc/owned\n"
  }
  script "read" {
    content = "#!/bin/sh\necho \"left: $(cat /etc/owned)\"\n"
  }
`

// addScripts applies the demo's configuration with scripts in its launch block.
func addScripts(t *testing.T, m *migration.Migration) {
	t.Helper()
	applied(t, m, `
check "owned" {
  kind     = "console"
  contains = "first boot: done, 0 failed"
}
`, "  instance_type", owned+"  instance_type", "checks = [", "checks = [check.owned, ")
}

// applied applies the demo's configuration with other texts in place of some of it, and with more at its end.
func applied(t *testing.T, m *migration.Migration, more string, oldnew ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repo, "configs", "demo", "fleet.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldnew); i += 2 {
		if !strings.Contains(string(text), oldnew[i]) {
			t.Fatalf("the demo's configuration has no %q", oldnew[i])
		}
	}
	path := filepath.Join(t.TempDir(), "fleet.hcl")
	if err := os.WriteFile(path, []byte(strings.NewReplacer(oldnew...).Replace(string(text))+more), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Command(t.Context(), "apply", "--yes", path); err != nil {
		t.Fatal(err)
	}
}

// scriptsRan looks at what the scripts said: in the job, and on the console of the instance.
func scriptsRan(t *testing.T, m *migration.Migration) {
	t.Helper()
	job, err := m.Job(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := job.Servers[0]
	if len(s.Scripts) != 1 || s.Scripts[0].Outcome != protocol.ScriptSucceeded || strings.TrimSpace(s.Scripts[0].Output) != "test of "+migration.Server {
		t.Errorf("the conversion's script: %+v", s.Scripts)
	}
	status, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cloud, err := m.Driver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	console, err := cloud.ConsoleOutput(t.Context(), status.Record.Test.Instance)
	if err != nil || !strings.Contains(console, "left: test of "+migration.Server) {
		t.Errorf("the first boot's script is not on the console, %v:\n%s", err, console)
	}
}

// cutOver completes the migration: every record that the source wrote is on the target, and nothing is left but that.
func cutOver(t *testing.T, m *migration.Migration) {
	t.Helper()
	if err := m.Command(t.Context(), "wave", "cutover", migration.Wave, "--yes"); err != nil {
		t.Fatal(err)
	}
	last, err := m.WriterEnded(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	target, err := m.Inspect(t.Context(), s.Record.Cutover)
	target.RecordsExpected = last
	if err != nil || !target.Complete() {
		t.Errorf("the target is not what the source was: %+v, %v", target, err)
	}
	if err := m.Command(t.Context(), "wave", "finalize", migration.Wave, "--yes"); err != nil {
		t.Fatal(err)
	}
	left, err := m.CloudLeftovers(t.Context(), s.Record.Cutover)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the cloud: %v, %v", left, err)
	}
}

// equalAtPoint compares the point of the test launch with its snapshot and its target.
func equalAtPoint(t *testing.T, m *migration.Migration) {
	t.Helper()
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Record.Test == nil {
		t.Fatal("the record has no test launch")
	}
	point, err := m.Point(t.Context(), s.Record.Test.Point)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := m.Hash(t.Context(), point)
	if err != nil {
		t.Fatal(err)
	}
	if !hashes.Equal() {
		t.Errorf("the source at point %s is %s, the snapshot %s", point.ID, hashes.Source, hashes.Snapshot)
	}
	want, err := m.RecordsAt(t.Context(), point.ID)
	if err != nil {
		t.Fatal(err)
	}
	target, err := m.Inspect(t.Context(), s.Record.Test)
	target.RecordsExpected = want
	if err != nil || !target.Complete() {
		t.Errorf("the target is not what the source was: %+v, %v", target, err)
	}
}
