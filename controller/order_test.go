package controller

import (
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

// chain is three servers of one application, each after the next one.
func (w *world) chain() protocol.Fleet {
	f := w.three()
	f.Servers[0].After, f.Servers[1].After = []string{"web-2"}, []string{"web-3"}
	f.Waves[0].Concurrency = 3
	return f
}

func (w *world) chainReady() {
	w.t.Helper()
	w.threeReady()
	w.apply(w.chain())
}

// wantChain checks that no server began before the one before it had ended.
func wantChain(t *testing.T, job protocol.Job) {
	t.Helper()
	began, over := map[string]time.Time{}, map[string]time.Time{}
	for _, s := range job.Servers {
		began[s.Server], over[s.Server] = s.Steps[0].Started, s.Steps[len(s.Steps)-1].Ended
	}
	for _, name := range []string{"web-1", "web-2"} {
		before := map[string]string{"web-1": "web-2", "web-2": "web-3"}[name]
		if began[name].IsZero() || began[name].Before(over[before]) {
			t.Errorf("%s began at %s, and %s before it ended at %s", name, began[name], before, over[before])
		}
	}
}

// TestServersBeginAfterThoseBeforeThem kills the controller at each record of the job.
func TestServersBeginAfterThoseBeforeThem(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.chainReady()
	w.watch(m.kill, protocol.BucketJobs)
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	if got, want := outcomes(job), "web-1 SUCCEEDED, web-2 SUCCEEDED, web-3 SUCCEEDED"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	wantChain(t, job)
	if kills := m.end(); kills < 20 {
		t.Errorf("the controller was killed %d times only", kills)
	}
}

// TestWhatComesAfterAFailureIsLeftOut and what does not goes on.
func TestWhatComesAfterAFailureIsLeftOut(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.chainReady()
	w.cloud.mu.Lock()
	w.cloud.brokenFor = "web-2"
	w.cloud.mu.Unlock()
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	if got, want := outcomes(job), "web-1 CANCELLED, web-2 FAILED, web-3 SUCCEEDED"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var said strings.Builder
	for _, e := range job.Log {
		if e.Event == protocol.EventServerSkipped {
			said.WriteString(e.Server + ": " + e.Detail)
		}
	}
	if want := "web-1: it comes after server web-2, of which server web-2 has failed"; said.String() != want {
		t.Errorf("the log says %q, want %q", said.String(), want)
	}
}

// TestACutoverWaitsForGates asks for a cutover while gates are closed one after the other, and for the runbook that says so before.
func TestACutoverWaitsForGates(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	gated := func(g protocol.GateSettings) protocol.Runbook {
		t.Helper()
		f := w.fleet()
		f.Waves[0].Gates = g
		plan, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f})
		if err != nil {
			t.Fatal(err)
		}
		never := len(g.Windows) == 1 // the one that is over
		if warned := strings.Contains(strings.Join(plan.Warnings, "\n"), "wave one cannot be cut over: its window is over"); warned != never {
			t.Errorf("warnings %q", plan.Warnings)
		}
		book, err := ask[protocol.RunbookRequest, protocol.Runbook](w, protocol.VerbRunbook, protocol.RunbookRequest{Wave: "one"})
		if err != nil {
			t.Fatal(err)
		}
		return book
	}
	over := protocol.WindowSettings{On: "2020-02-29", From: 22 * time.Hour, To: 4 * time.Hour, Zone: "Europe/Vienna"}
	cutover := protocol.StartRequest{Selection: protocol.Selection{Servers: []string{"web-1"}}, Kind: protocol.JobCutover}
	for want, g := range map[string]protocol.GateSettings{
		"gates of wave one are closed: verified (web-1: its replica was never compared": {Verified: time.Hour, Tested: time.Hour},
		"gates of wave one are closed: window (its window is over":                      {Windows: []protocol.WindowSettings{over}},
	} {
		book := gated(g)
		closed := 0
		for _, gate := range book.Gates {
			if !gate.Open {
				closed++
			}
		}
		if closed != 1 {
			t.Errorf("the runbook has other gates: %+v", book.Gates)
		}
		if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, cutover); !isProblem(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	book := gated(protocol.GateSettings{Lag: time.Minute, Tested: time.Hour, Clean: true, Windows: []protocol.WindowSettings{over, {From: 0, To: 24 * time.Hour, Zone: "UTC"}, {From: 12 * time.Hour, To: 12*time.Hour - time.Minute, Zone: "UTC"}}})
	for _, gate := range book.Gates {
		if !gate.Open {
			t.Errorf("gate %+v is closed", gate)
		}
	}
	// The test of before is what the prediction rests on, but for the fence.
	if d := book.Downtimes; len(d) != 3 || d[0].Of != "server web-1" || d[0].Time < 10*time.Second || d[0].Time > time.Minute || d[2].Of != "wave one" || d[2].Time != d[0].Time {
		t.Errorf("downtimes %+v", d)
	}
	if s := book.Steps; len(s) != 3 || s[1].What != "cut over web-1" || s[1].Success != "checks pass: page, login" || !book.End.After(book.Start) {
		t.Errorf("steps %+v", s)
	}
	wantSucceeded(t, w.awaitJob(w.startOf(cutover).ID))
}
