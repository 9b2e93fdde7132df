package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/controller/internal/staging"
	"rehost/internal/cloud"
	"rehost/protocol"
)

func (w *world) move(server, to string) (protocol.Move, error) {
	w.t.Helper()
	return ask[protocol.MoveRequest, protocol.Move](w, protocol.VerbMove, protocol.MoveRequest{Server: server, To: to})
}

// find returns the status of one of several servers.
func (w *world) find(server string) protocol.ServerStatus {
	w.t.Helper()
	s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{Servers: []string{server}})
	if err != nil || len(s.Servers) != 1 {
		w.t.Fatalf("status of %s: %v", server, err)
	}
	return s.Servers[0]
}

// awaitMove waits until a move has come to its end, whatever that is.
func (w *world) awaitMove(server string) protocol.Server {
	w.t.Helper()
	w.await("the end of the move of "+server, func() bool {
		s := w.find(server)
		return s.Record.Move == nil && staging.Initiated(s.Record) && s.Replication == protocol.ReplicationContinuous
	})
	return w.find(server).Record
}

func (w *world) wantNoWrongCalls() {
	w.t.Helper()
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	if len(w.cloud.calls) > 0 {
		w.t.Errorf("wrong calls: %v", w.cloud.calls)
	}
}

// shop brings three servers to READY_FOR_TEST, on one replication server.
func (w *world) shop() {
	w.t.Helper()
	f := w.application()
	w.apply(f)
	for _, s := range f.Servers {
		w.agent(s.Name)
	}
	w.await("all servers", func() bool {
		s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
		return err == nil && len(s.Waves) == 1 && s.Waves[0].Counts[protocol.ReadyForTest] == len(f.Servers)
	})
}

func TestAServerMovesToAnotherReplicationServer(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	old := w.instance(before)
	if _, err := w.move("web-1", ""); err != nil {
		t.Fatal(err)
	}
	w.awaitTakeover(before, old)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
}

// TestAMoveUnderKills kills the controller after each change that it makes in the cloud, or in the records of servers and
// replication servers.
func TestAMoveUnderKills(t *testing.T) {
	for name, c := range map[string]struct {
		arm   func(w *world, kill func())
		kills int
	}{
		// Launch, two detachments, two attachments, the end of the old one.
		"cloud": {func(w *world, kill func()) {
			w.cloud.mu.Lock()
			defer w.cloud.mu.Unlock()
			w.cloud.changed = kill
		}, 5},
		"records": {func(w *world, kill func()) { w.watch(kill, protocol.BucketServers, protocol.BucketStaging) }, 10},
	} {
		t.Run(name, func(t *testing.T) { moveUnderKills(t, c.arm, c.kills) })
	}
}

func moveUnderKills(t *testing.T, arm func(w *world, kill func()), atLeast int) {
	t.Helper()
	w := newWorld(t)
	m := w.mortal()
	before := w.replicated()
	w.apply(w.fleet()) // its silence while controllers come and go replaces nobody
	old := w.instance(before)
	arm(w, m.kill)
	w.await("the order", func() bool { // the answer to it may be lost
		_, err := w.move("web-1", protocol.MoveDedicated)
		r := w.server().Record
		return err == nil || r.Move != nil || r.Replica != before.Replica
	})
	w.awaitTakeover(before, old)
	kills := m.end()
	t.Logf("%d kills", kills)
	if kills < atLeast {
		t.Errorf("the controller was killed %d times only", kills)
	}
}

func TestMovesBetweenNamedReplicationServers(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.shop()
	shared := w.find("web-1").Record.Replica
	if _, err := w.move("web-1", protocol.MoveDedicated); err != nil {
		t.Fatal(err)
	}
	own := w.awaitMove("web-1").Replica
	if own == shared {
		t.Fatal("web-1 did not move")
	}
	for name, c := range map[string]struct{ server, to, want string }{
		"a dedicated one":   {"web-2", own, "it is dedicated to web-1"},
		"where it is":       {"web-2", shared, "it is on " + shared},
		"one that is not":   {"web-2", "rs-none", `no replication server "rs-none"`},
		"an unknown server": {"web-9", "", `no server "web-9"`},
	} {
		if _, err := w.move(c.server, c.to); err == nil || !isProblem(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	// Nothing else is put on the dedicated one: any other one is a new one.
	if _, err := w.move("web-2", ""); err != nil {
		t.Fatal(err)
	}
	if r := w.awaitMove("web-2"); r.Replica == own || r.Replica == shared {
		t.Errorf("web-2 is on %s", r.Replica)
	}
	if _, err := w.move("web-1", shared); err != nil {
		t.Fatal(err)
	}
	if r := w.awaitMove("web-1"); r.Replica != shared {
		t.Errorf("web-1 is on %s, want %s", r.Replica, shared)
	}
	w.await("the end of the empty one", func() bool { return w.cloud.left()[cloud.RoleReplicaServer] == 2 })
	w.wantNoWrongCalls()
}

func TestAMoveWaitsForTheOldOneAndGivesUp(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	w.apply(w.fleet()) // its silence for a while replaces nobody
	old := w.instance(before)
	w.setClinging(old, true)
	if _, err := w.move("web-1", ""); err != nil {
		t.Fatal(err)
	}
	w.await("its being asked to let go", func() bool {
		m := w.server().Record.Move
		return m != nil && !m.Releasing.IsZero()
	})
	if _, err := w.move("web-1", protocol.MoveDedicated); err == nil || !strings.Contains(err.Error(), "on its way") {
		t.Errorf("a second move: %v", err)
	}
	after := w.awaitMove("web-1")
	if after.Replica != before.Replica || w.instance(after) != old {
		t.Errorf("it is on %s (instance %s), and stays on %s", after.Replica, w.instance(after), before.Replica)
	}
	if p := after.Problem; p == nil || !strings.Contains(p.Message, "has not given the replica up within 2s") || p.Hint == "" {
		t.Errorf("the problem is %+v", p)
	}
	w.await("the end of the other one", func() bool { return w.cloud.left()[cloud.RoleReplicaServer] == 1 })
	w.setClinging(old, false)
	if _, err := w.move("web-1", ""); err != nil {
		t.Fatal(err)
	}
	if after = w.awaitMove("web-1"); after.Replica == before.Replica || after.Problem != nil {
		t.Errorf("the second attempt: %+v", after)
	}
	w.wantNoWrongCalls()
}

func TestAMoveWaitsForTheDetachment(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	old := w.instance(before)
	busy := make(chan struct{})
	w.cloud.mu.Lock()
	w.cloud.busy = busy
	w.cloud.mu.Unlock()
	if _, err := w.move("web-1", ""); err != nil {
		t.Fatal(err)
	}
	w.await("the reason", func() bool { return strings.Contains(w.server().Waiting, "not within 2s") })
	if r := w.server().Record; r.Replica != before.Replica || w.instance(r) != old {
		t.Errorf("the replica was given to %s before it was detached", r.Replica)
	}
	close(busy)
	w.awaitTakeover(before, old)
}

// TestTheNewOneDiesDuringAMove has it end while the old one is asked to let go: the server stays where it is.
func TestTheNewOneDiesDuringAMove(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	old := w.instance(before)
	w.setClinging(old, true)
	if _, err := w.move("web-1", ""); err != nil {
		t.Fatal(err)
	}
	w.await("its being asked to let go", func() bool {
		m := w.server().Record.Move
		return m != nil && !m.Releasing.IsZero()
	})
	instances, err := w.cloud.Instances(t.Context(), cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		if i.ID != old {
			if err := w.cloud.TerminateInstance(t.Context(), i.ID, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(lost / 2)
	w.setClinging(old, false)
	after := w.awaitMove("web-1")
	if diff := cmp.Diff(before.Volumes, after.Volumes); diff != "" || after.Generation != before.Generation || w.instance(after) == "" {
		t.Errorf("the replica is another one: %s", diff)
	}
	w.wantNoWrongCalls()
}
