package lifecycle

import (
	"flag"
	"os"
	"testing"

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
	jobs := []protocol.JobKind{"", protocol.JobTest, protocol.JobCutover, protocol.JobFinalize, protocol.JobTerminate}
	for bits := range 1 << 5 {
		for _, job := range jobs {
			f := Facts{Job: job, Wanted: bits&1 > 0, Launchable: bits&2 > 0, Tested: bits&4 > 0, Launched: bits&8 > 0, Finalized: bits&16 > 0}
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
	for _, tt := range []struct {
		name   string
		server protocol.Server
		kind   protocol.JobKind
		force  string
		want   protocol.ProblemCode
	}{
		{"test before sync", protocol.Server{Lifecycle: protocol.NotReady}, protocol.JobTest, "hurry", protocol.ProblemNotAllowed},
		{"test when ready", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.JobTest, "", ""},
		{"test again", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.JobTest, "", ""},
		{"busy", protocol.Server{Lifecycle: protocol.ReadyForTest, Job: "j"}, protocol.JobTest, "", protocol.ProblemConflict},
		{"cutover untested", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.JobCutover, "", protocol.ProblemNotAllowed},
		{"cutover untested, forced", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.JobCutover, "tested by hand", ""},
		{"cutover unsynced, forced", protocol.Server{Lifecycle: protocol.NotReady}, protocol.JobCutover, "hurry", protocol.ProblemNotAllowed},
		{"cutover", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.JobCutover, "", ""},
		{"finalize early", protocol.Server{Lifecycle: protocol.ReadyForCutover}, protocol.JobFinalize, "hurry", protocol.ProblemNotAllowed},
		{"finalize", protocol.Server{Lifecycle: protocol.CuttingOver, Cutover: launched}, protocol.JobFinalize, "", ""},
		{"terminate nothing", protocol.Server{Lifecycle: protocol.ReadyForTest}, protocol.JobTerminate, "", protocol.ProblemNotAllowed},
		{"terminate", protocol.Server{Lifecycle: protocol.ReadyForCutover, Test: launched}, protocol.JobTerminate, "", ""},
	} {
		var got protocol.ProblemCode
		if p := Refusal(tt.server, tt.kind, tt.force); p != nil {
			got = p.Code
			if p.Hint == "" {
				t.Errorf("%s: the refusal has no hint", tt.name)
			}
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
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
