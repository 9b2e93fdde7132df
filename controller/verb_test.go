package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// change asks for an action on the server, as an operator; a controller that died before it could answer may have done it.
func (w *world) change(action protocol.Action, reason string) protocol.Changed {
	w.t.Helper()
	req := protocol.ChangeRequest{Selection: protocol.Selection{Servers: []string{"web-1"}}, Action: action, Reason: reason}
	out, err := ask[protocol.ChangeRequest, []protocol.Changed](w, protocol.VerbChange, req)
	if err != nil || len(out) != 1 {
		w.t.Fatalf("%s: %+v, %v", action, out, err)
	}
	return out[0]
}

// must is change for what must not be refused. A controller that died before it could answer may have done it.
func (w *world) must(action protocol.Action, reason string) protocol.Server {
	w.t.Helper()
	c := w.change(action, reason)
	if c.Problem == nil {
		return c.Record
	}
	rec := w.server().Record
	if rec.Remark == nil || rec.Remark.Action != action {
		w.t.Fatalf("%s: %s", action, c.Problem.Message)
	}
	return rec
}

func TestAPausedServerKeepsItsReplicaAndIsNotTested(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.must(protocol.ActionPause, "the link is needed")
	w.await("the pause", func() bool { return w.server().Replication == protocol.ReplicationPaused })
	if s := w.server(); s.Next != "rehost server resume web-1" || s.Record.Remark == nil || s.Record.Remark.Reason != "the link is needed" {
		t.Errorf("next %q, remark %+v", s.Next, s.Record.Remark)
	}
	req := protocol.StartRequest{Selection: protocol.Selection{Servers: []string{"web-1"}}, Kind: protocol.JobTest}
	if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "is paused") {
		t.Errorf("a test while paused: got %v", err)
	}
	if c := w.change(protocol.ActionPause, ""); c.Problem == nil || !strings.Contains(c.Problem.Message, "paused already") {
		t.Errorf("a second pause: got %+v", c.Problem)
	}
	w.must(protocol.ActionResume, "")
	w.await("CONTINUOUS", func() bool { return w.server().Replication == protocol.ReplicationContinuous })
	if diff := cmp.Diff(map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2}, w.cloud.left()); diff != "" {
		t.Errorf("what there is (-want +got):\n%s", diff)
	}
	job, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	if err != nil {
		t.Fatal(err)
	}
	wantSucceeded(t, w.awaitJob(job.ID))
}

// TestAStoppedServerLeavesNothingAndStartsAnew stops one that has been tested, starts it again, and goes on to the end.
func TestAStoppedServerLeavesNothingAndStartsAnew(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.cloud.mu.Lock()
	w.cloud.changed = m.kill
	w.cloud.mu.Unlock()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	before := w.server().Record.Generation
	if rec := w.must(protocol.ActionStop, "not this month"); rec.Lifecycle != protocol.NotReady {
		t.Errorf("it is %s at once, want NOT_READY", rec.Lifecycle)
	}
	w.watch(m.kill, protocol.BucketServers)
	w.await("an empty cloud", func() bool { return len(w.cloud.left()) == 0 && w.server().Record.Generation == "" })
	s := w.server()
	if s.Replication != protocol.ReplicationStopped || s.Next != "rehost server start web-1" || !s.Record.Tested.IsZero() {
		t.Errorf("stopped: %s, next %q, tested %s", s.Replication, s.Next, s.Record.Tested)
	}
	w.must(protocol.ActionStart, "")
	w.awaitState(protocol.ReadyForTest)
	if g := w.server().Record.Generation; g == before {
		t.Error("it goes on in the generation of before")
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	w.awaitState(protocol.ReadyForCutover)
	if kills := m.end(); kills < 30 {
		t.Errorf("the controller was killed %d times only", kills)
	}
}

func TestADisconnectedServerComesBackAndIsArchived(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.must(protocol.ActionDisconnect, "")
	w.awaitState(protocol.Disconnected)
	w.await("an empty cloud", func() bool { return len(w.cloud.left()) == 0 && w.server().Record.Generation == "" })
	w.must(protocol.ActionArchive, "")
	status, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
	if err != nil || len(status.Servers) != 0 {
		t.Errorf("an archived server is in the status: %+v, %v", status.Servers, err)
	}
	status, err = ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{Archived: true})
	if err != nil || len(status.Servers) != 1 {
		t.Errorf("an archived server cannot be seen: %+v, %v", status.Servers, err)
	}
	w.must(protocol.ActionStart, "") // its agent has been enrolled again
	w.awaitState(protocol.ReadyForTest)
}

func TestAServerIsMarkedReadyAndThatIsWithdrawn(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	if c := w.change(protocol.ActionReady, ""); c.Problem == nil || !strings.Contains(c.Problem.Message, "no test of it has passed") {
		t.Errorf("without a reason: got %+v", c.Problem)
	}
	if rec := w.must(protocol.ActionReady, "tested by hand"); rec.Lifecycle != protocol.ReadyForCutover || rec.Remark.Reason != "tested by hand" {
		t.Errorf("it is %s, and its remark is %+v", rec.Lifecycle, rec.Remark)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobRevert).ID))
	w.awaitState(protocol.ReadyForTest)
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fences) > 0 {
		t.Errorf("the source was touched: %v", w.fences)
	}
}

// TestARevertedCutoverLetsTheSourceGoOn kills the controller at each change in the cloud and each record of the revert.
func TestARevertedCutoverLetsTheSourceGoOn(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	w.awaitState(protocol.CuttingOver)
	if s := w.server(); !strings.Contains(s.Next, "rehost wave revert one") {
		t.Errorf("next is %q", s.Next)
	}
	id := w.start(protocol.JobRevert).ID
	w.cloud.mu.Lock()
	w.cloud.changed = m.kill
	w.cloud.mu.Unlock()
	w.watch(m.kill, protocol.BucketJobs, protocol.BucketServers)
	job := w.awaitJob(id)
	wantSucceeded(t, job)
	wantLogWithoutGap(t, job)
	w.awaitState(protocol.ReadyForCutover)
	w.awaitFences(true, false)
	if diff := cmp.Diff(map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2}, w.cloud.left()); diff != "" {
		t.Errorf("what is left beside the replica (-want +got):\n%s", diff)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	w.awaitState(protocol.CuttingOver)
	if kills := m.end(); kills < 6 {
		t.Errorf("the controller was killed %d times only", kills)
	}
}

// TestACancelledJobLeavesNothing cancels a cutover at each of its steps, as soon as the step is recorded.
func TestACancelledJobLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.taken = 2 * time.Second // then what was made of a point that was cut off is looked for once more
	defer w.controller(t.Context())()
	w.tested()
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTerminate).ID))
	w.awaitState(protocol.ReadyForCutover)
	f := w.fleet()
	f.Checks[1].Contains, f.Checks[1].Timeout = "what is never shown", time.Hour // no job is complete before it is cancelled
	w.apply(f)
	w.cloud.mu.Lock()
	w.cloud.slow = 20 * time.Millisecond // so that most cancellations come in the midst of a step
	w.cloud.mu.Unlock()
	for _, step := range []string{"fence", "point", "snapshot", "clone", "convert", "image", "retire", "launch", "actions", "check"} {
		id := w.start(protocol.JobCutover).ID
		w.await("step "+step, func() bool {
			job, err := ask[protocol.JobRequest, protocol.Job](w, protocol.VerbJob, protocol.JobRequest{ID: id})
			return err == nil && (job.Status.Ended() || slices.ContainsFunc(job.Servers[0].Steps, func(s protocol.JobStep) bool { return s.Name == step && s.Status != protocol.StepNotStarted }))
		})
		_, err := ask[protocol.CancelRequest, protocol.Job](w, protocol.VerbCancel, protocol.CancelRequest{ID: id, Reason: "window over"})
		if err != nil {
			t.Errorf("cancel at %s: %v", step, err)
			continue
		}
		job := w.awaitJob(id)
		if job.Status != protocol.JobCancelled || job.Servers[0].Status != protocol.StepCancelled || job.Cancel.Reason != "window over" {
			t.Errorf("cancelled at %s: the job is %s, its server %s, %+v", step, job.Status, job.Servers[0].Status, job.Cancel)
		}
		if !slices.ContainsFunc(job.Log, func(e protocol.JobEvent) bool { return e.Event == protocol.EventJobCancel && e.Detail == "window over" }) {
			t.Errorf("cancelled at %s: the log does not say so: %+v", step, job.Log)
		}
		w.awaitState(protocol.ReadyForCutover)
		if r := w.server().Record; r.Fence || r.Cutover != nil || r.Job != "" {
			t.Errorf("cancelled at %s: fence %v, cutover %+v, job %q", step, r.Fence, r.Cutover, r.Job)
		}
		w.await("what is left when cancelled at "+step, func() bool {
			return cmp.Equal(map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2}, w.cloud.left())
		})
	}
	w.apply(w.fleet())
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
}

// TestACancelledTestSaysNothing: what an earlier test has shown still holds.
func TestACancelledTestSaysNothing(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	id := w.start(protocol.JobTest).ID
	if _, err := ask[protocol.CancelRequest, protocol.Job](w, protocol.VerbCancel, protocol.CancelRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	w.watch(m.kill, protocol.BucketJobs)
	if job := w.awaitJob(id); job.Status != protocol.JobCancelled {
		t.Errorf("the job is %s", job.Status)
	}
	w.awaitState(protocol.ReadyForCutover)
	if _, err := ask[protocol.CancelRequest, protocol.Job](w, protocol.VerbCancel, protocol.CancelRequest{ID: id}); !isProblem(err) || !strings.Contains(err.Error(), "is over") {
		t.Errorf("cancelled twice: got %v", err)
	}
	m.end()
}
