package pipeline

import (
	"os"
	"path/filepath"
	"testing"

	"rehost/agent"
	"rehost/protocol"
)

func TestAFenceIsRunOnceReportedAndReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4<<20)
	w.startReplica()
	trace := filepath.Join(w.dir, "trace")
	w.hooks = agent.Hooks{
		Fence:   []string{"/bin/sh", "-c", `echo fence >> "$0"`, trace},
		Unfence: []string{"/bin/sh", "-c", `echo unfence >> "$0"`, trace},
	}
	a := w.startAgent(false)
	w.awaitContinuous()
	order := func(fence bool) {
		w.mu.Lock()
		w.fence = fence
		w.mu.Unlock()
		poke(w)
		w.await("fence", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Fenced == fence })
	}
	order(true)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	w.startAgent(true)
	w.awaitContinuous()
	order(true)
	if !w.takePoint("last") {
		t.Error("no point of a fenced source")
	}
	order(false)
	got, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "fence\nunfence\n" {
		t.Errorf("hooks ran as %q", got)
	}
}

// want orders the agent.
func (w *world) want(wanted protocol.Wanted) {
	w.mu.Lock()
	w.wanted = wanted
	w.mu.Unlock()
	poke(w)
}

func TestAPausedAgentSendsNothingAndThenCatchesUp(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 4<<20)
	w.fill(rng, 200)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	whole := w.sent()
	w.want(protocol.WantPause)
	w.await("pause", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationPaused
	})
	w.fill(rng, 10)
	var changed int64
	w.await("backlog", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		changed = a.Disks[0].Need
		return a.Disks[0].Need > 0 && a.Disks[0].Pending == 0 && a.Lag > 0
	})
	if n := w.sent(); n != whole {
		t.Errorf("it sent %d bytes while it was paused", n-whole)
	}
	w.want(protocol.WantReplicate)
	w.await("rest", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationContinuous && a.Lag == 0 && a.Disks[0].Need == 0
	})
	if n := w.sent() - whole; n == 0 || n > changed {
		t.Errorf("it sent %d bytes after the pause, and %d were changed", n, changed)
	}
	if !w.takePoint("after") {
		t.Error("no point after the pause")
	}
}

// TestAStoppedAgentWaitsAndStartsFromNothing: it stays connected, and what it had sent counts no more.
func TestAStoppedAgentWaitsAndStartsFromNothing(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 4<<20)
	w.fill(rng, 20)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	w.want(protocol.WantStop)
	w.await("the stop", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationStopped && a.Generation == "" && a.Disks[0].Need == a.Disks[0].SizeBytes
	})
	w.fill(rng, 20)
	w.renew(t)
	w.want(protocol.WantReplicate)
	w.await("the new generation", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Generation == "g2" && a.Replication == protocol.ReplicationContinuous
	})
	if !w.takePoint("after") {
		t.Error("no point in the new generation")
	}
}

// renew gives the server a replica that has nothing, in a generation of its own.
func (w *world) renew(t *testing.T) {
	t.Helper()
	if err := os.Remove(w.volumePath(0)); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	stream := protocol.StreamName(serverName, w.gen)
	w.gen, w.volumes[0] = "g2", "vol-0000000000000cafe"
	w.newVolume(0)
	w.agent = protocol.AgentReport{}
	w.mu.Unlock()
	if err := w.js.DeleteStream(t.Context(), stream); err != nil {
		t.Fatal(err)
	}
	w.ensureStream()
}

func TestANewGenerationStartsFromNothing(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 4<<20)
	w.fill(rng, 20)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	w.renew(t)
	w.await("the new generation", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Generation == "g2" && a.Replication == protocol.ReplicationContinuous
	})
	if !w.takePoint("after") {
		t.Error("no point in the new generation")
	}
}
