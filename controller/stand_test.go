package controller

import (
	"testing"
	"time"

	"rehost/protocol"
)

// wantLeader asks which controller answers.
func (w *world) wantLeader(name string, term uint64) {
	w.t.Helper()
	reply, err := ask[protocol.VersionRequest, protocol.VersionReply](w, protocol.VerbVersion, protocol.VersionRequest{})
	if err != nil || reply.Leader == nil || reply.Leader.Holder != name || reply.Leader.Term != term {
		w.t.Errorf("got %+v, %v; want %s in term %d", reply.Leader, err, name, term)
	}
}

// TestTheOtherControllerGoesOn with a job that the first one began, and the first one stands by when it comes back.
func TestTheOtherControllerGoesOn(t *testing.T) {
	w := newWorld(t)
	play := func(name string) (stop func()) {
		return w.play(t.Context(), Config{Name: name, Timing: Timing{Lease: 3 * time.Second}})
	}
	stop := play("one")
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	defer play("two")()
	w.wantLeader("one", 1)
	job := w.start(protocol.JobTest)
	stop()
	wantSucceeded(t, w.awaitJob(job.ID))
	w.wantLeader("two", 2)
	defer play("one")()
	w.wantLeader("two", 2)
	w.apply(w.fleet())
}
