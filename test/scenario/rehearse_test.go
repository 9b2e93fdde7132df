package scenario

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"rehost/internal/cloud"
	"rehost/protocol"
	"rehost/test/migration"
)

// hostname is the source's.
const hostname = "ledger"

// watched is a configuration that looks inside of its targets and does things on them: by SSH, and at the first boot.
const watched = `
action "mark" {
  content = "#!/bin/sh -eu\necho \"marked by $(id -un) on $(hostname)\" | tee /var/lib/marked\n"
}

action "join" {
  by      = "first-boot"
  content = "#!/bin/sh -eu\necho joined | tee /var/lib/joined\n"
}

action "announce" {
  phase        = "cutover"
  must_succeed = false
  content      = "#!/bin/sh\necho no balancer here\nexit 3\n"
}

check "marked" {
  kind     = "ssh"
  command  = ["cat", "/var/lib/marked", "/var/lib/joined"]
  contains = "joined"
}

check "apache" {
  kind = "unit"
  unit = "apache2.service"
}

check "workers" {
  kind    = "process"
  process = "apache2"
}

check "volumes" {
  kind = "mounts"
  free = "10MiB"
}
`

// A wave of a real server says by itself that it would boot, is rehearsed, and is cut over only since it was: with actions and checks inside of the guests.
func TestAWaveOfARealGuestIsRehearsed(t *testing.T) {
	if os.Getenv("REHOST_REHEARSAL") == "" {
		t.Skip("takes minutes: make rehearsal")
	}
	m := start(t)
	key := authorize(t, m)
	waitFor(t, m, protocol.ReplicationContinuous)
	driver, err := m.Driver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	group, err := driver.EnsureSecurityGroup(t.Context(), cloud.GroupSpec{Name: "sealed", Description: "tests", Ports: []int{22, 80}, Closed: true})
	if err != nil {
		t.Fatal(err)
	}
	applied(t, m, watched,
		"  ingress_ports", fmt.Sprintf("  ready {\n    every = \"1h\"\n  }\n  ssh {\n    key_file = %q\n  }\n  test_security_groups = [%q]\n  ingress_ports", key, group),
		"checks = [", "actions = [action.join, action.mark, action.announce]\n  checks = [check.marked, check.apache, check.workers, check.volumes, ",
		"  applications = [", "  gates {\n    rehearsed = \"1h\"\n    preflight = \"clean\"\n  }\n  applications = [")

	boots := wouldBoot(t, m)
	if err := m.Command(t.Context(), "wave", "cutover", migration.Wave, "--yes"); err == nil {
		t.Error("the wave is cut over, and its gate `rehearsed` is closed")
	}
	if err := m.Command(t.Context(), "wave", "rehearse", migration.Wave, "--yes"); err != nil {
		t.Fatal(err)
	}
	rehearsal := job(t, m)
	wantActions(t, rehearsal.Servers[0], "join succeeded joined", "mark succeeded marked by root on "+hostname)
	if rehearsal.Applications[0].Outcome != protocol.OutcomePassed || rehearsal.Rehearsal == nil || rehearsal.Rehearsal.Cutover == nil {
		t.Fatalf("the rehearsal is %+v", rehearsal.Applications)
	}
	t.Logf("a copy had booted %s after its point; predicted for the cutover: %+v", boots.At.Sub(boots.Taken).Round(time.Second), rehearsal.Rehearsal.Cutover.Downtimes)
	if left := status(t, m).Record; left.Test != nil || left.Fence {
		t.Errorf("the rehearsal left %+v, fence %v", left.Test, left.Fence)
	}

	cutOver(t, m)
	report, err := m.Evidence(t.Context())
	if err != nil || len(report.Servers) != 1 || len(report.Downtimes) == 0 {
		t.Fatalf("the report of the cutover: %v, %+v", err, report)
	}
	wantActions(t, report.Servers[0].JobServer, "join succeeded joined", "mark succeeded marked by root on "+hostname, "announce failed no balancer here")
	for _, d := range report.Downtimes {
		t.Logf("%s was down for %s, predicted %s from %s", d.Of, d.Actual.Round(time.Second), d.Predicted.Round(time.Second), d.Basis)
	}
}

// authorize lets the controller log in on the source, and so on its targets; it returns the private key's file.
func authorize(t *testing.T, m *migration.Migration) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "checks")
	if err != nil {
		t.Fatal(err)
	}
	key, folder := filepath.Join(t.TempDir(), "key"), filepath.Join(m.Root(), "root", ".ssh")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{key: pem.EncodeToMemory(block), filepath.Join(folder, "authorized_keys"): ssh.MarshalAuthorizedKey(line)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return key
}

// wouldBoot waits until the controller has found out that a copy of the server boots.
func wouldBoot(t *testing.T, m *migration.Migration) (found protocol.BootCheck) {
	t.Helper()
	until(t, "word of whether it boots", 5*time.Minute, func() (bool, string) {
		s, err := m.Status(t.Context())
		if err != nil || s.Record.Boots == nil {
			return false, fmt.Sprint(err)
		}
		found = *s.Record.Boots
		return true, "at " + found.At.Format(time.TimeOnly)
	})
	if found.Problem != nil {
		t.Fatalf("it does not boot: %+v", found)
	}
	return found
}

func job(t *testing.T, m *migration.Migration) protocol.Job {
	t.Helper()
	j, err := m.Job(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// wantActions compares what was done on a server's target.
func wantActions(t *testing.T, s protocol.JobServer, want ...string) {
	t.Helper()
	var got []string
	for _, a := range s.Actions {
		got = append(got, fmt.Sprintf("%s %s %s", a.Name, a.Outcome, strings.TrimSpace(a.Output)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("done on the target: %q, want %q", got, want)
	}
}
