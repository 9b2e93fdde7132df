package crash

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// wave is three applications of six servers in their order. A check of web-2 never passes.
func wave() protocol.Fleet {
	f := fleet([]string{"db-1", "web-1", "web-2", "mx-1", "mx-2", "crm-1"})
	f.Applications = []protocol.ApplicationSettings{
		{Name: "shop", Servers: []string{"web-1", "web-2", "db-1"}}, {Name: "mail", Servers: []string{"mx-1", "mx-2"}}, {Name: "crm", Servers: []string{"crm-1"}, After: []string{"mail"}},
	}
	f.Waves = []protocol.WaveSettings{{Name: "one", Applications: []string{"shop", "mail", "crm"}, Concurrency: 6}}
	f.Servers[1].After, f.Servers[2].After, f.Servers[3].After = []string{"db-1"}, []string{"web-1"}, []string{"mx-2"}
	f.Checks = []protocol.CheckSettings{{Name: "never", Kind: "console", Contains: "what is never shown", Timeout: time.Second}}
	f.Servers[2].Checks = []string{"never"}
	return f
}

// TestAWaveSurvivesAKillAtEveryBoundary: the application whose check fails is rolled back, the others are committed, and once the check is gone the
// same wave cuts over what is left.
func TestAWaveSurvivesAKillAtEveryBoundary(t *testing.T) { surviveWave(t, cast{}) }

// TestAWaveSurvivesKillsOfTheLeader is the same wave with two controllers.
func TestAWaveSurvivesKillsOfTheLeader(t *testing.T) {
	surviveWave(t, cast{names: []string{"one", "two"}})
}

func surviveWave(t *testing.T, c cast) {
	t.Helper()
	needCrash(t)
	f := wave()
	w := newWorld(t, f, c)
	shop, others := []string{"db-1", "web-1", "web-2"}, []string{"mx-1", "mx-2", "crm-1"}
	for _, server := range append(slices.Clone(shop), others...) {
		req := protocol.ChangeRequest{Selection: protocol.Selection{Servers: []string{server}}, Action: protocol.ActionReady, Reason: "tested by hand"}
		if _, err := ask[protocol.ChangeRequest, []protocol.Changed](w, protocol.VerbChange, req); err != nil {
			t.Fatal(err)
		}
	}
	w.awaitAll(shop, protocol.ReadyForCutover)
	w.awaitAll(others, protocol.ReadyForCutover)
	w.setMortal(true)
	job := w.run(protocol.JobCutover)
	t.Logf("%d kills", w.setMortal(false))
	want := map[string]protocol.Outcome{"shop": protocol.OutcomeRolledBack, "mail": protocol.OutcomeCommitted, "crm": protocol.OutcomeCommitted}
	wantDecided(t, job, want)
	w.wantFenced(shop, false)
	w.wantFenced(others, true)
	// One replication server, and of each server a conversion, a target, two snapshots of the point and of the clones, an image: each once.
	made := map[string]int{"RunInstances": 1 + 6*2, "CreateVolume": 6*2 + 6*2, "CreateSnapshots": 6 * 2, "CreateSnapshot": 6 * 2, "RegisterImage": 6}
	if diff := cmp.Diff(made, w.made.counts()); diff != "" {
		t.Errorf("what was made in the cloud (-want +got):\n%s", diff)
	}
	f.Servers[2].Checks = nil
	if _, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f}); err != nil {
		t.Fatal(err)
	}
	want = map[string]protocol.Outcome{"shop": protocol.OutcomeCommitted}
	wantDecided(t, w.run(protocol.JobCutover), want)
	w.awaitAll(shop, protocol.CuttingOver)
	w.wantFenced(append(shop, others...), true)
	w.run(protocol.JobFinalize)
	w.wantOnlyTargets(6)
}

// wantDecided compares what became of the applications of a job that something was decided of.
func wantDecided(t *testing.T, job protocol.Job, want map[string]protocol.Outcome) {
	t.Helper()
	got := map[string]protocol.Outcome{}
	for _, a := range job.Applications {
		if a.Outcome != "" {
			got[a.Name] = a.Outcome
		}
		t.Logf("%s: %s %s", a, a.Outcome, a.Why)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
}

// wantFenced checks whether sources are fenced, which they are when they are cut over.
func (w *world) wantFenced(servers []string, fenced bool) {
	w.t.Helper()
	var s protocol.Status
	w.await("word of the agents", func() bool { // the last controller may have just begun
		var err error
		s, err = ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{Servers: servers})
		return err == nil && !slices.ContainsFunc(s.Servers, func(s protocol.ServerStatus) bool { return s.Agent == nil })
	})
	for _, s := range s.Servers {
		if r := s.Record; r.Fence != fenced || (r.Cutover != nil) != fenced || s.Agent.Fenced != fenced {
			w.t.Errorf("%s: fence ordered %v, cutover %+v, agent %+v", r.Name, r.Fence, r.Cutover, s.Agent)
		}
	}
}
