package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// kept is the fleet whose server is to be kept ready.
func (w *world) kept(every time.Duration) protocol.Fleet {
	f := w.fleet()
	f.Launches[0].TestSubnet, f.Launches[0].Ready = "subnet-2", every
	return f
}

// awaitBoots waits for an answer by another job than before.
func (w *world) awaitBoots(before string) protocol.BootCheck {
	w.t.Helper()
	var out protocol.BootCheck
	w.await("word of whether it boots", func() bool {
		if b := w.server().Record.Boots; b != nil && b.Job != before {
			out = *b
		}
		return out.Job != ""
	})
	return out
}

func (w *world) jobsOf(server string) []protocol.Job {
	w.t.Helper()
	jobs, err := ask[protocol.JobsRequest, []protocol.Job](w, protocol.VerbJobs, protocol.JobsRequest{Server: server})
	if err != nil {
		w.t.Fatal(err)
	}
	return jobs
}

// TestACopyIsBootedAgainAndAgain while the controller is killed at each record of a job: the answer has an age, nothing is left, what an operator has
// tested stays as it is, and so does the server's place in its lifecycle.
func TestACopyIsBootedAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.tested()
	before := w.server().Record
	left := w.cloud.left()
	w.watch(m.kill, protocol.BucketJobs)
	w.apply(w.kept(time.Hour))
	first := w.awaitBoots("")
	kills := m.end()
	defer w.controller(t.Context())()
	if first.Problem != nil || first.Point == "" || first.Taken.IsZero() || !first.Passed.Equal(first.At) || kills < 5 {
		t.Fatalf("got %+v after %d kills", first, kills)
	}
	w.awaitJob(first.Job)
	after := w.server().Record
	if after.Lifecycle != protocol.ReadyForCutover || !after.Since.Equal(before.Since) || !after.Tested.Equal(before.Tested) || cmp.Diff(before.Test, after.Test) != "" || after.Job != "" {
		t.Errorf("the record was %+v, and is %+v", before, after)
	}
	if diff := cmp.Diff(left, w.cloud.left()); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	job := w.awaitJob(first.Job)
	if got := w.launchedIn(job.Servers[0].Data["instance"]); got != "subnet-2" || job.By != "rehost" {
		t.Errorf("launched in %q by %q", got, job.By)
	}
	if newest := w.newestJob(); newest.Ready {
		t.Errorf("the newest job is %s", newest.ID)
	}
	w.apply(w.kept(time.Millisecond)) // once more, and again
	second := w.awaitBoots(first.Job)
	if w.awaitBoots(second.Job); len(w.jobsOf("web-1")) > 3 { // the test, the one before, and this one
		t.Errorf("jobs are kept: %d", len(w.jobsOf("web-1")))
	}
	w.cloud.setBroken(true)
	w.await("a copy that does not boot", func() bool { return w.server().Record.Boots.Problem != nil })
	w.apply(w.kept(time.Hour))
	bad := w.server().Record.Boots
	if bad.Step != "convert" || !strings.Contains(bad.Problem.Message, "no kernel found") || bad.Passed.IsZero() || !bad.Passed.Before(bad.At) {
		t.Errorf("got %+v", bad)
	}
	if found := w.preflight(protocol.PreflightRequest{Servers: []string{"web-1"}}); !strings.Contains(found[len(found)-1].Findings[0].Message, "a copy of it does not boot") {
		t.Errorf("preflight says %+v", found)
	}
}

// TestBootingACopyGivesWay to a job that somebody wants, which has not to wait for it.
func TestBootingACopyGivesWay(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.cloud.setBooting(true)
	w.apply(w.kept(time.Hour))
	w.agent("web-1")
	w.await("a copy that boots", func() bool {
		jobs := w.jobsOf("web-1")
		return len(jobs) == 1 && stepOf(jobs[0], "web-1", "boot").Status == protocol.StepInProgress
	})
	ready := w.jobsOf("web-1")[0]
	if got := w.server().Record.Lifecycle; got != protocol.ReadyForTest {
		t.Errorf("the server is %s", got)
	}
	f := w.kept(0)
	f.Servers[0].Checks = []string{"page"}
	w.apply(f)
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	wantSucceeded(t, job)
	ready = w.awaitJob(ready.ID)
	if ready.Status != protocol.JobCancelled || !strings.Contains(ready.Cancel.Reason, "it gives way to job "+job.ID) {
		t.Errorf("the other one is %s, %+v", ready.Status, ready.Cancel)
	}
	if w.server().Record.Boots != nil {
		t.Errorf("it says %+v", w.server().Record.Boots)
	}
	want := map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2, cloud.RolePointSnapshot: 2, cloud.RoleConvertedSnapshot: 1, cloud.RoleImage: 1, cloud.RoleTarget: 1}
	if diff := cmp.Diff(want, w.cloud.left()); diff != "" {
		t.Errorf("what there is of the test only (-want +got):\n%s", diff)
	}
}

// TestACancelledCopyIsNotBootedAgainAtOnce: whoever cancels it wants to be left alone for a while.
func TestACancelledCopyIsNotBootedAgainAtOnce(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.cloud.setBooting(true)
	w.apply(w.kept(time.Hour))
	w.agent("web-1")
	w.await("a copy that boots", func() bool { return len(w.jobsOf("web-1")) == 1 })
	id := w.jobsOf("web-1")[0].ID
	if _, err := ask[protocol.CancelRequest, protocol.Job](w, protocol.VerbCancel, protocol.CancelRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	w.awaitJob(id)
	for range 10 { // looks at which servers are due
		time.Sleep(20 * time.Millisecond)
		if jobs := w.jobsOf("web-1"); len(jobs) != 1 || jobs[0].ID != id {
			t.Fatalf("another one is booted: %+v", jobs)
		}
	}
	w.apply(w.kept(time.Millisecond))
	w.await("the next one", func() bool { jobs := w.jobsOf("web-1"); return len(jobs) == 1 && jobs[0].ID != id })
}

// TestACopyThatIsBootedRunsNoAction: it would join or register something each day. The launch block's scripts are part of the conversion.
func TestACopyThatIsBootedRunsNoAction(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.cloud.firstBoot = map[string]int{"own": 0, "action.join": 0}
	f := w.kept(time.Hour)
	f.Launches[0].Scripts = []protocol.Script{{Name: "own", Phase: protocol.ScriptFirstBoot, Content: "#!/bin/sh\n"}}
	f.Actions = []protocol.ActionSettings{{Name: "join", By: protocol.ActionByFirstBoot, Phase: protocol.ActionInBoth, Content: "#!/bin/sh\n", MustSucceed: true, Timeout: 20 * time.Second}}
	f.Servers[0].Actions = []string{"join"}
	w.apply(f)
	w.agent("web-1")
	if got := w.awaitBoots(""); got.Problem != nil {
		t.Fatalf("got %+v", got)
	}
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	if ran := w.cloud.firstBoots["web-1"]; !strings.Contains(ran, "here is 01-own") || strings.Contains(ran, "join") {
		t.Errorf("at its first boot ran: %q", ran)
	}
}

// TestNoCopyIsBootedWhereItCouldDoHarm says so when the configuration is applied.
func TestNoCopyIsBootedWhereItCouldDoHarm(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.kept(time.Hour)
	f.Launches[0].TestSubnet = ""
	plan, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f})
	if err != nil || !strings.Contains(strings.Join(plan.Warnings, "\n"), "launch web says `ready`, and not where the sealed network is") {
		t.Errorf("got %v, %q", err, plan.Warnings)
	}
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	if jobs := w.jobsOf("web-1"); len(jobs) != 1 {
		t.Errorf("there are %d jobs", len(jobs))
	}
}
