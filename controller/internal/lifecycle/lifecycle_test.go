package lifecycle

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

var update = flag.Bool("update", false, "write docs/lifecycle.md")

var states = []protocol.Lifecycle{
	protocol.NotReady, protocol.ReadyForTest, protocol.Testing, protocol.ReadyForCutover,
	protocol.CuttingOver, protocol.Cutover, protocol.Disconnected,
}

// grid yields every combination of facts.
func grid(yield func(Facts) bool) {
	jobs := []protocol.JobKind{"", protocol.JobTest, protocol.JobCutover, protocol.JobFinalize, protocol.JobRevert, protocol.JobTerminate}
	for bits := range 1 << 7 {
		for _, job := range jobs {
			f := Facts{
				Job: job, Wanted: bits&1 > 0, Launchable: bits&2 > 0, Tested: bits&4 > 0, Launched: bits&8 > 0, Finalized: bits&16 > 0,
				Stopped: bits&32 > 0, Disconnect: bits&64 > 0,
			}
			if !yield(f) {
				return
			}
		}
	}
}

func TestNextTakesDeclaredEdgesOnlyAndEachOfThem(t *testing.T) {
	declared := map[Edge]bool{}
	for _, e := range Edges {
		declared[e] = false
	}
	for _, cur := range states {
		for f := range grid {
			next, reason := Next(cur, f)
			if next == cur {
				if reason != "" {
					t.Errorf("%s stays with %+v, yet for a reason: %s", cur, f, reason)
				}
				continue
			}
			e := Edge{cur, next, reason}
			if _, ok := declared[e]; !ok {
				t.Errorf("%s with %+v takes the undeclared edge %+v", cur, f, e)
			}
			declared[e] = true
		}
	}
	for e, taken := range declared {
		if !taken {
			t.Errorf("no facts take the edge %+v", e)
		}
	}
}

func TestEveryStateIsReachable(t *testing.T) {
	reached := map[protocol.Lifecycle]bool{protocol.NotReady: true}
	for range states {
		for _, e := range Edges {
			if reached[e.From] {
				reached[e.To] = true
			}
		}
	}
	for _, s := range states {
		if !reached[s] {
			t.Errorf("%s cannot be reached", s)
		}
	}
}

func TestNextSettles(t *testing.T) {
	for _, start := range states {
		for f := range grid {
			cur := start
			for range len(states) + 1 {
				cur, _ = Next(cur, f)
			}
			if again, _ := Next(cur, f); again != cur {
				t.Errorf("from %s with %+v the state goes round in circles", start, f)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	launched := &protocol.Launched{Instance: "i-1"}
	now := time.Now()
	failed := []protocol.Initiation{{Status: protocol.StepFailed}}
	for _, tt := range []struct {
		name   string
		server protocol.Server
		action protocol.Action
		reason string
		want   string // part of the refusal; empty: there is none
	}{
		{"test before sync", protocol.Server{Lifecycle: protocol.NotReady}, protocol.ActionTest, "hurry", "initial sync is not complete"},
		{"test when ready", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionTest, "", ""},
		{"test again", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.ActionTest, "", ""},
		{"test while paused", protocol.Server{Lifecycle: protocol.ReadyForTest, Wanted: protocol.WantPause}, protocol.ActionTest, "", "is paused"},
		{"busy", protocol.Server{Lifecycle: protocol.ReadyForTest, Job: "j"}, protocol.ActionTest, "", "job j works on it"},
		{"cutover untested", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionCutover, "", "no test of it has passed"},
		{"cutover untested, forced", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionCutover, "tested by hand", ""},
		{"cutover unsynced, forced", protocol.Server{Lifecycle: protocol.NotReady}, protocol.ActionCutover, "hurry", "initial sync is not complete"},
		{"cutover", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.ActionCutover, "", ""},
		{"cutover twice", protocol.Server{Lifecycle: protocol.CuttingOver, Cutover: launched}, protocol.ActionCutover, "hurry", "launched already"},
		{"ready without a word", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionReady, "", "no test of it has passed"},
		{"ready", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionReady, "tested by hand", ""},
		{"revert untested", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionRevert, "", "READY_FOR_TEST"},
		{"revert a test", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.ActionRevert, "", ""},
		{"revert a cutover", protocol.Server{Lifecycle: protocol.CuttingOver, Cutover: launched}, protocol.ActionRevert, "", ""},
		{"revert what is finalized", protocol.Server{Lifecycle: protocol.Cutover, Cutover: launched}, protocol.ActionRevert, "", "migration is complete"},
		{"finalize early", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.ActionFinalize, "hurry", "READY_FOR_CUTOVER"},
		{"finalize", protocol.Server{Lifecycle: protocol.CuttingOver, Cutover: launched}, protocol.ActionFinalize, "", ""},
		{"terminate nothing", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionTerminate, "", "no test instance"},
		{"terminate", protocol.Server{Lifecycle: protocol.ReadyForCutover, Test: launched}, protocol.ActionTerminate, "", ""},
		{"pause too early", protocol.Server{Lifecycle: protocol.NotReady}, protocol.ActionPause, "", "does not replicate now"},
		{"pause", protocol.Server{Lifecycle: protocol.NotReady, Wanted: protocol.WantReplicate}, protocol.ActionPause, "", ""},
		{"pause twice", protocol.Server{Lifecycle: protocol.NotReady, Wanted: protocol.WantPause}, protocol.ActionPause, "", "paused already"},
		{"resume what runs", protocol.Server{Lifecycle: protocol.NotReady, Wanted: protocol.WantReplicate}, protocol.ActionResume, "", "not paused"},
		{"stop", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.ActionStop, "", ""},
		{"stop twice", protocol.Server{Lifecycle: protocol.NotReady, Stopped: now}, protocol.ActionStop, "", "stopped already"},
		{"stop between cutover and finalization", protocol.Server{Lifecycle: protocol.CuttingOver, Cutover: launched}, protocol.ActionStop, "", "CUTTING_OVER"},
		{"test what is stopped", protocol.Server{Lifecycle: protocol.NotReady, Stopped: now}, protocol.ActionTest, "", "replication is stopped"},
		{"start what runs", protocol.Server{Lifecycle: protocol.NotReady}, protocol.ActionStart, "", "was not stopped"},
		{"start what is being removed", protocol.Server{Lifecycle: protocol.NotReady, Stopped: now, Generation: "g"}, protocol.ActionStart, "", "being removed"},
		{"start", protocol.Server{Lifecycle: protocol.NotReady, Stopped: now}, protocol.ActionStart, "", ""},
		{"start after a disconnection", protocol.Server{Lifecycle: protocol.Disconnected, Disconnect: now}, protocol.ActionStart, "", ""},
		{"retry what did not fail", protocol.Server{Lifecycle: protocol.NotReady}, protocol.ActionRetry, "", "nothing of its replication has failed"},
		{"retry", protocol.Server{Lifecycle: protocol.NotReady, Initiation: failed}, protocol.ActionRetry, "", ""},
		{"disconnect", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.ActionDisconnect, "", ""},
		{"disconnect between cutover and finalization", protocol.Server{Lifecycle: protocol.CuttingOver, Cutover: launched}, protocol.ActionDisconnect, "", "CUTTING_OVER"},
		{"archive early", protocol.Server{Lifecycle: protocol.CuttingOver}, protocol.ActionArchive, "", "CUTTING_OVER"},
		{"archive", protocol.Server{Lifecycle: protocol.Cutover}, protocol.ActionArchive, "", ""},
		{"archive twice", protocol.Server{Lifecycle: protocol.Cutover, Archived: now}, protocol.ActionArchive, "", "archived already"},
		{"unarchive", protocol.Server{Lifecycle: protocol.Cutover, Archived: now}, protocol.ActionUnarchive, "", ""},
		{"unarchive nothing", protocol.Server{Lifecycle: protocol.Cutover}, protocol.ActionUnarchive, "", "not archived"},
		{"revoke in a job", protocol.Server{Lifecycle: protocol.Testing, Job: "j"}, protocol.ActionRevoke, "", ""},
	} {
		p := Refusal(tt.server, tt.action, tt.reason)
		if p == nil {
			p = &protocol.Problem{Hint: "none"}
		}
		if p.Hint == "" {
			t.Errorf("%s: the refusal has no hint", tt.name)
		}
		if tt.want == "" && p.Message != "" || !strings.Contains(p.Message, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, p.Message, tt.want)
		}
	}
}

func TestEachActionHasOneRule(t *testing.T) {
	var got []protocol.Action
	for _, r := range Rules {
		got = append(got, r.Action)
	}
	if diff := cmp.Diff(protocol.Actions, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

func TestDiagramIsInTheDocumentation(t *testing.T) {
	const path = "../../../docs/lifecycle.md"
	if *update {
		if err := os.WriteFile(path, []byte(Diagram()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Diagram(), string(got)); diff != "" {
		t.Errorf("docs/lifecycle.md differs from the table of edges (-want +got):\n%s", diff)
	}
}
