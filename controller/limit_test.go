package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

// three is a fleet of three servers, in one application and one wave.
func (w *world) three() protocol.Fleet {
	f := w.fleet()
	names := []string{"web-1", "web-2", "web-3"}
	f.Servers = nil
	for _, name := range names {
		f.Servers = append(f.Servers, protocol.ServerSettings{Name: name, Replication: "default", Launch: "web", Checks: []string{"page", "login"}, Fence: "hook"})
	}
	f.Applications[0].Servers = names
	return f
}

// threeReady brings three servers to where they can be tested.
func (w *world) threeReady() {
	w.t.Helper()
	w.apply(w.three())
	for _, s := range w.three().Servers {
		w.agent(s.Name)
	}
	w.awaitAll(protocol.ReadyForTest)
}

func (w *world) awaitAll(want protocol.Lifecycle) {
	w.t.Helper()
	w.await("all "+string(want), func() bool {
		s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
		return err == nil && len(s.Servers) == 3 && !slices.ContainsFunc(s.Servers, func(s protocol.ServerStatus) bool { return s.Record.Lifecycle != want })
	})
}

// outcomes is a job's servers by what came of them.
func outcomes(job protocol.Job) string {
	var out []string
	for _, s := range job.Servers {
		out = append(out, fmt.Sprintf("%s %s", s.Server, s.Status))
	}
	return strings.Join(out, ", ")
}

// TestAFailedServerDoesNotStopTheOthers unless the job says so.
func TestAFailedServerDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.threeReady()
	w.cloud.mu.Lock()
	w.cloud.brokenFor = "web-1"
	w.cloud.mu.Unlock()
	req := protocol.StartRequest{Selection: protocol.Selection{Application: "shop"}, Kind: protocol.JobTest, Concurrency: 1}
	if got, want := outcomes(w.awaitJob(w.startOf(req).ID)), "web-1 FAILED, web-2 SUCCEEDED, web-3 SUCCEEDED"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	req.StopOnFailure = true
	job := w.awaitJob(w.startOf(req).ID)
	if got, want := outcomes(job), "web-1 FAILED, web-2 CANCELLED, web-3 CANCELLED"; got != want {
		t.Errorf("with stop on failure: got %s, want %s", got, want)
	}
	if job.Status != protocol.JobCompleted {
		t.Errorf("with stop on failure the job is %s, and nobody has cancelled it", job.Status)
	}
	skipped := slices.IndexFunc(job.Log, func(e protocol.JobEvent) bool { return e.Event == protocol.EventServerSkipped && e.Server == "web-2" })
	if skipped < 0 || !strings.Contains(job.Log[skipped].Detail, "web-1 has failed") {
		t.Errorf("the log does not say why: %+v", job.Log)
	}
	// Those that were left out are as they were.
	w.await("web-2 READY_FOR_CUTOVER", func() bool {
		s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{Servers: []string{"web-2"}})
		return err == nil && s.Servers[0].Record.Lifecycle == protocol.ReadyForCutover
	})
}

// TestAQuotaIsWaitedForWhileOthersWork gives the account room for one conversion: three servers are tested all the same, one after
// the other and with no attempt used up. With no room at all the job fails and says so.
func TestAQuotaIsWaitedForWhileOthersWork(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.threeReady()
	w.cloud.mu.Lock()
	w.cloud.limit, w.cloud.slow = 1, 10*time.Millisecond
	w.cloud.mu.Unlock()
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest, Concurrency: 3}
	job := w.awaitJob(w.startOf(req).ID)
	if got, want := outcomes(job), "web-1 SUCCEEDED, web-2 SUCCEEDED, web-3 SUCCEEDED"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	told := 0
	for _, e := range job.Log {
		if strings.Contains(e.Error, "VcpuLimitExceeded") {
			told++
		}
	}
	if told == 0 || told > 6 {
		t.Errorf("the log tells %d times of the quota", told)
	}
	for _, s := range job.Servers {
		for _, st := range s.Steps {
			if st.Attempts > 1 {
				t.Errorf("%s: step %s took %d attempts", s.Server, st.Name, st.Attempts)
			}
		}
	}
	w.cloud.mu.Lock()
	w.cloud.limit = -1
	w.cloud.mu.Unlock()
	req.Selection = protocol.Selection{Servers: []string{"web-2"}}
	job = w.awaitJob(w.startOf(req).ID)
	if s := job.Servers[0]; s.Status != protocol.StepFailed || !strings.Contains(s.Problem.Message, "VcpuLimitExceeded") {
		t.Errorf("with no room at all: %+v", s)
	}
}

// TestASiteHasItsOwnLimit: two jobs work on three servers of one site, which may have one at once, and each step of each server ends before one of another begins.
func TestASiteHasItsOwnLimit(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.three()
	f.Replications[0].Concurrency = 1
	w.apply(f)
	for _, s := range f.Servers {
		w.agent(s.Name)
	}
	w.awaitAll(protocol.ReadyForTest)
	w.cloud.mu.Lock()
	w.cloud.slow = 20 * time.Millisecond
	w.cloud.mu.Unlock()
	two := w.startOf(protocol.StartRequest{Selection: protocol.Selection{Servers: []string{"web-1", "web-2"}}, Kind: protocol.JobTest, Concurrency: 2})
	one := w.startOf(protocol.StartRequest{Selection: protocol.Selection{Servers: []string{"web-3"}}, Kind: protocol.JobTest})
	type span struct {
		server   string
		from, to time.Time
	}
	var spans []span
	for _, job := range []protocol.Job{w.awaitJob(two.ID), w.awaitJob(one.ID)} {
		for _, s := range job.Servers {
			if s.Status != protocol.StepSucceeded {
				t.Errorf("%s is %s: %+v", s.Server, s.Status, s.Problem)
			}
			first, last := s.Steps[0], s.Steps[len(s.Steps)-1]
			spans = append(spans, span{s.Server, first.Started, last.Ended})
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	for i, s := range spans[1:] {
		if before := spans[i]; s.from.Before(before.to) {
			t.Errorf("%s begins at %s, and %s goes on until %s", s.server, s.from, before.server, before.to)
		}
	}
}

// TestAnOldPointNeedsAReason launches from a point that was taken two days ago.
func TestAnOldPointNeedsAReason(t *testing.T) {
	w := newWorld(t)
	w.takenAgo = 48 * time.Hour
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	points, err := ask[protocol.PointRequest, []protocol.Point](w, protocol.VerbPoint, protocol.PointRequest{Server: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	w.await("the point", func() bool {
		all, err := ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: "web-1"})
		return err == nil && all[0].State == protocol.PointComplete
	})
	req := protocol.StartRequest{
		Selection: protocol.Selection{Servers: []string{"web-1"}}, Kind: protocol.JobTest, Points: map[string]string{"web-1": points[0].ID},
	}
	if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "48h0m0s old, which is more than 24h0m0s") {
		t.Errorf("without a reason: got %v", err)
	}
	req.Force = "only this one is wanted"
	job := w.awaitJob(w.startOf(req).ID)
	wantSucceeded(t, job)
	said := slices.IndexFunc(job.Log, func(e protocol.JobEvent) bool { return e.Event == protocol.EventPreviousPoint })
	if said < 0 || !strings.Contains(job.Log[said].Detail, points[0].ID+", 48h0m") {
		t.Errorf("the log does not name the point and its age: %+v", job.Log)
	}
	if l := w.server().Record.Test; l == nil || time.Since(l.Taken) < 48*time.Hour {
		t.Errorf("the record does not say when the point was taken: %+v", l)
	}
}
