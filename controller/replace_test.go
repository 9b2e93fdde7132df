package controller

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/controller/internal/staging"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// replicated brings a server to READY_FOR_TEST, with replication servers that are replaced after a second of silence.
func (w *world) replicated() protocol.Server {
	w.t.Helper()
	f := w.fleet()
	f.Replications[0].ReplaceAfter = time.Second
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	return w.server().Record
}

// instance returns the one that a server's volumes are attached to; empty: none, or not one.
func (w *world) instance(r protocol.Server) string {
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	found := map[string]bool{}
	for _, v := range r.Volumes {
		found[w.cloud.volumes[v.Volume].Instance] = true
	}
	if len(found) != 1 {
		return ""
	}
	for id := range found {
		return id
	}
	return ""
}

// awaitTakeover waits until another replication server has the replica, and holds it against the record of before.
func (w *world) awaitTakeover(before protocol.Server, old string) {
	w.t.Helper()
	w.await("another replication server", func() bool {
		s := w.server()
		return s.Record.Replica != "" && s.Record.Replica != before.Replica && s.Replication == protocol.ReplicationContinuous &&
			s.Record.Replacing == "" && s.Record.Move == nil && staging.Initiated(s.Record)
	})
	r := w.server().Record
	if r.Generation != before.Generation || r.Stream != before.Stream || cmp.Diff(before.Volumes, r.Volumes) != "" {
		w.t.Errorf("the replica is another one: %+v, was %+v", r, before)
	}
	if now := w.instance(r); now == "" || now == old {
		w.t.Errorf("the volumes are attached to %q", now)
	}
	w.await("the end of the old one", func() bool { return w.cloud.left()[cloud.RoleReplicaServer] == 1 })
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	if diff := cmp.Diff(map[string]int{cloud.RoleReplicaServer: 2, cloud.RoleStagingVolume: 2}, w.cloud.made); diff != "" {
		w.t.Errorf("what was made in the cloud (-want +got):\n%s", diff)
	}
	if len(w.cloud.calls) > 0 {
		w.t.Errorf("wrong calls: %v", w.cloud.calls)
	}
}

func TestASilentReplicationServerIsReplaced(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	old := w.instance(before)
	stuck := make(chan struct{})
	w.cloud.mu.Lock()
	w.cloud.stuck = stuck
	w.cloud.mu.Unlock()
	w.setMute(old, true)
	w.await("its being missed", func() bool {
		s := w.server()
		return s.Replication == protocol.ReplicationStalled && strings.Contains(s.Waiting, "was given up: no report for 1s")
	})
	time.Sleep(lost)
	if r := w.server().Record; r.Replica != before.Replica || w.instance(r) != old || w.cloud.left()[cloud.RoleReplicaServer] != 1 {
		t.Errorf("its replica was taken from it before it had ended: %+v", r)
	}
	close(stuck)
	w.awaitTakeover(before, old)
	w.setMute(old, false) // it has ended, so it cannot come back
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
}

func TestAReplicationServerWhoseInstanceEndedIsReplaced(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	f := w.fleet() // for its silence alone it would not be
	w.apply(f)
	old := w.instance(before)
	if err := w.cloud.TerminateInstance(t.Context(), old, nil); err != nil {
		t.Fatal(err)
	}
	w.awaitTakeover(before, old)
}

func TestWhoIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	before := w.replicated()
	old := w.instance(before)
	w.setMute(old, true)
	time.Sleep(lost + lost/2) // it is missing, and comes back
	w.setMute(old, false)
	time.Sleep(lost)
	w.setMute(old, true)
	w.setMute("web-1", true) // nobody is heard of: that is the bus
	time.Sleep(4 * time.Second)
	if r := w.server().Record; r.Replica != before.Replica || w.instance(r) != old {
		t.Errorf("it was replaced by %s", r.Replica)
	}
	w.setMute("web-1", false)
	w.awaitTakeover(before, old)
}

// TestATakeoverUnderKills kills the controller after each change that it makes in the cloud.
func TestATakeoverUnderKills(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	before := w.replicated()
	old := w.instance(before)
	w.cloud.mu.Lock()
	w.cloud.changed = m.kill
	w.cloud.mu.Unlock()
	w.setMute(old, true)
	w.awaitTakeover(before, old)
	if kills := m.end(); kills < 4 { // termination, launch, two attachments
		t.Errorf("the controller was killed %d times only", kills)
	}
}

// TestHowManyReplicationServers has three servers with two disks each.
func TestHowManyReplicationServers(t *testing.T) {
	for _, c := range []struct {
		dedicated bool
		volumes   int // that one may have
		want      int
	}{{true, 0, 3}, {false, 0, 1}, {false, 6, 1}, {false, 5, 2}, {false, 1, 3}} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			w := newWorld(t)
			defer w.controller(t.Context())()
			f := w.application()
			f.Replications[0].Dedicated, f.Replications[0].VolumesPerServer = c.dedicated, c.volumes
			w.apply(f)
			for _, s := range f.Servers {
				w.agent(s.Name)
			}
			w.await("all servers", func() bool {
				s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
				return err == nil && len(s.Waves) == 1 && s.Waves[0].Counts[protocol.ReadyForTest] == 3
			})
			if n := w.cloud.left()[cloud.RoleReplicaServer]; n != c.want {
				t.Errorf("%d replication servers for three servers", n)
			}
		})
	}
}
