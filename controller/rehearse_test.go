package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// sealed is the fleet of two applications, whose tests have a network of their own and whose wave has a window.
func (w *world) sealed() protocol.Fleet {
	f := w.two()
	f.Launches[0].TestSubnet = "subnet-2"
	f.Waves[0].Gates.Windows = []protocol.WindowSettings{{From: 22 * time.Hour, To: 22*time.Hour - time.Minute, Zone: "UTC"}}
	return f
}

func (w *world) sealedReady() {
	w.t.Helper()
	w.apply(w.sealed())
	for _, s := range w.two().Servers {
		w.agent(s.Name)
	}
	w.awaitEach(protocol.ReadyForTest)
}

var rehearsal = protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest, Rehearse: true}

// TestAWaveIsRehearsed while the controller is killed at each record of a server: the rehearsal is the cutover without the fence, and leaves nothing.
func TestAWaveIsRehearsed(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.sealedReady()
	f := w.sealed()
	f.Applications[1].After = []string{"shop"}
	w.apply(f)
	w.watch(m.kill, protocol.BucketServers)
	job := w.awaitJob(w.startOf(rehearsal).ID)
	kills := m.end()
	defer w.controller(t.Context())()
	if diff := cmp.Diff(map[string]protocol.Outcome{"shop": protocol.OutcomePassed, "mail": protocol.OutcomePassed}, decided(job)); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%s", diff, outcomes(job))
	}
	if kills < 8 {
		t.Errorf("the controller was killed %d times only", kills)
	}
	points := map[string]bool{}
	for _, s := range job.Servers {
		points[s.Data["point"]] = true
		if began, over := stepOf(job, s.Server, "terminate").Started, stepOf(job, "mx-1", "check").Ended; began.Before(over) {
			t.Errorf("%s was terminated at %s, and the last check was over at %s", s.Server, began, over)
		}
		if got := w.launchedIn(s.Data["instance"]); got != "subnet-2" {
			t.Errorf("%s was launched in %q", s.Server, got)
		}
	}
	if len(points) != 2 {
		t.Errorf("each application takes one point, and there are: %v", points)
	}
	for name, before := range map[string]string{"web-1": "web-2", "web-2": "web-3"} {
		if stepOf(job, name, "launch").Started.Before(stepOf(job, before, "check").Ended) {
			t.Errorf("%s was launched before %s was checked", name, before)
		}
	}
	if stepOf(job, "mx-1", "point").Started.Before(stepOf(job, "web-1", "check").Ended) {
		t.Error("mail was begun before shop had passed")
	}
	for _, r := range w.records() {
		if r.Test != nil || r.Tested.IsZero() || r.Job != "" || r.Lifecycle != protocol.ReadyForCutover {
			t.Errorf("%s: test %+v at %s, job %q, %s", r.Name, r.Test, r.Tested, r.Job, r.Lifecycle)
		}
	}
	w.awaitFences()
	if diff := cmp.Diff(map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 8}, w.cloud.left()); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	w.wantForecast(job)
}

// wantForecast checks what a rehearsal says of the cutover.
func (w *world) wantForecast(job protocol.Job) {
	w.t.Helper()
	book := job.Rehearsal.Cutover
	if book == nil || len(book.Downtimes) != 7 || book.Downtimes[0].Basis == "a guess: no job has done this yet" && book.Downtimes[0].Time > time.Minute {
		w.t.Fatalf("the cutover is predicted as %+v", book)
	}
	if len(book.Gates) != 1 || !book.Gates[0].Open && book.Gates[0].Opens.IsZero() {
		w.t.Errorf("it fits: %+v", book.Gates)
	}
	report, err := ask[protocol.ReportRequest, protocol.Report](w, protocol.VerbReport, protocol.ReportRequest{Wave: "one"})
	if err != nil || report.Job != job.ID || report.Rehearsal == nil || len(report.Absent) != 1 {
		w.t.Fatalf("the report: %v, %+v", err, report)
	}
	last := report.Steps[len(report.Steps)-1]
	if len(report.Steps) != 6 || report.Steps[1].What != "rehearse web-3" || last.What != "terminate the instances" || last.Status != protocol.StepSucceeded || last.Ended.IsZero() {
		w.t.Errorf("its steps: %+v", report.Steps)
	}
	for _, s := range report.Steps[1:5] {
		if s.Begin.IsZero() || s.Ended.IsZero() || s.Ended.After(last.Began) {
			w.t.Errorf("step %+v, and the end began at %s", s, last.Began)
		}
	}
}

func (w *world) launchedIn(instance string) string {
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	return w.cloud.specs[instance].Subnet
}

// TestARehearsalTellsWhatFails: the application of a server that fails has failed, and the other one goes on. What failed stays for inspection, and so
// does all that is to be kept.
func TestARehearsalTellsWhatFails(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.sealedReady()
	f := w.sealed()
	f.Checks = append(f.Checks, protocol.CheckSettings{Name: "never", Kind: "console", Contains: "what is never shown", Timeout: 300 * time.Millisecond})
	f.Servers[1].Checks = []string{"never"}
	f.Waves[0].Gates = protocol.GateSettings{Rehearsed: time.Hour}
	w.apply(f)
	w.wantGate("the wave was never rehearsed to its end")
	job := w.awaitJob(w.startOf(rehearsal).ID)
	if got, want := outcomes(job), "web-1 CANCELLED, web-2 FAILED, web-3 SUCCEEDED, mx-1 SUCCEEDED"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if diff := cmp.Diff(map[string]protocol.Outcome{"shop": protocol.OutcomeFailed, "mail": protocol.OutcomePassed}, decided(job)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var left []string
	for _, r := range w.records() {
		if r.Test != nil {
			left = append(left, r.Name)
		}
		if r.Tested.IsZero() != (r.Name == "web-1" || r.Name == "web-2") {
			t.Errorf("%s was tested at %s", r.Name, r.Tested)
		}
	}
	if diff := cmp.Diff([]string{"web-2"}, left); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	w.wantGate("its newest rehearsal, " + job.ID + ", failed: application shop: web-2 failed at check")
	f.Servers[1].Checks = []string{"page"}
	w.apply(f)
	keep := rehearsal
	keep.Keep = true
	job = w.awaitJob(w.startOf(keep).ID)
	if got := outcomes(job); strings.Count(got, "SUCCEEDED") != 4 {
		t.Errorf("the second rehearsal: %s", got)
	}
	for _, r := range w.records() {
		if r.Test == nil || r.Test.Job != job.ID {
			t.Errorf("%s was to be kept: %+v", r.Name, r.Test)
		}
	}
	w.wantGate("")
	f.Servers[3].Fence = "confirmed"
	f.Waves[0].Concurrency = 1
	w.apply(f)
	w.wantGate("changed since its newest rehearsal, " + job.ID + ": server mx-1")
}

// wantGate checks the one gate of the wave: why it is closed, or "" when it is open. A cutover that it closes is refused.
func (w *world) wantGate(why string) {
	w.t.Helper()
	book, err := ask[protocol.RunbookRequest, protocol.Runbook](w, protocol.VerbRunbook, protocol.RunbookRequest{Wave: "one"})
	if err != nil || len(book.Gates) != 1 || book.Gates[0].Open != (why == "") || !strings.HasPrefix(book.Gates[0].Why, why) {
		w.t.Errorf("got %v, %+v, want %q", err, book.Gates, why)
	}
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover}
	if why == "" {
		return
	}
	if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "gates of wave one are closed: rehearsed ("+why) {
		w.t.Errorf("the cutover: %v", err)
	}
	if report, err := ask[protocol.ReportRequest, protocol.Report](w, protocol.VerbReport, protocol.ReportRequest{Wave: "one"}); err == nil && (len(report.Gates) != 1 || !strings.HasPrefix(report.Gates[0].Why, why)) {
		w.t.Errorf("the status has %+v", report.Gates)
	}
}

// TestARehearsalNeedsASealedNetwork for each server and each of its interfaces, and a wave.
func TestARehearsalNeedsASealedNetwork(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	refused := func(req protocol.StartRequest, want string) {
		t.Helper()
		if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	refused(protocol.StartRequest{Selection: protocol.Selection{Servers: []string{"web-1"}}, Kind: protocol.JobTest, Rehearse: true}, "a rehearsal is a test of a wave")
	refused(rehearsal, "nothing says where the sealed network of a rehearsal is: launch web")
	f := w.fleet()
	f.Launches[0].Subnet, f.Launches[0].TestSubnet = "subnet-1", "subnet-1"
	w.apply(f)
	refused(rehearsal, "launch web")
	f.Launches[0].TestSubnet = "subnet-2"
	f.Launches[0].Interfaces = []protocol.LaunchInterface{{}, {Subnet: "subnet-1", PrivateIP: "auto"}}
	w.apply(f)
	refused(rehearsal, "network_interface 2 of launch web")
}
