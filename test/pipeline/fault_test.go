package pipeline

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/protocol"
)

// faults damage the stream in one way each, while the replication server is down and frames wait for it.
var faults = map[string]func(t *testing.T, w *world, s jetstream.Stream){
	"a message is lost": func(t *testing.T, _ *world, s jetstream.Stream) {
		t.Helper()
		info := s.CachedInfo()
		if err := s.DeleteMsg(t.Context(), info.State.FirstSeq+info.State.Msgs/2); err != nil {
			t.Fatal(err)
		}
	},
	"the last message is lost": func(t *testing.T, _ *world, s jetstream.Stream) {
		t.Helper()
		if err := s.DeleteMsg(t.Context(), s.CachedInfo().State.LastSeq); err != nil {
			t.Fatal(err)
		}
	},
	"every message comes twice": func(t *testing.T, w *world, s jetstream.Stream) {
		t.Helper()
		info := s.CachedInfo()
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
			w.republish(t, s, seq, func(b []byte) []byte { return b })
		}
	},
	"a message is damaged": func(t *testing.T, w *world, s jetstream.Stream) {
		t.Helper()
		w.replaceFrom(t, s, func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	},
	"a message is cut short": func(t *testing.T, w *world, s jetstream.Stream) {
		t.Helper()
		w.replaceFrom(t, s, func(b []byte) []byte { return b[:len(b)/2] })
	},
	"a message is somebody else's": func(t *testing.T, w *world, s jetstream.Stream) {
		t.Helper()
		w.replaceFrom(t, s, func([]byte) []byte { return []byte("hello") })
	},
	"the stream is purged": func(t *testing.T, _ *world, s jetstream.Stream) {
		t.Helper()
		if err := s.Purge(t.Context()); err != nil {
			t.Fatal(err)
		}
	},
	"the stream is made anew": func(t *testing.T, w *world, _ jetstream.Stream) {
		t.Helper()
		if err := bus.DeleteStream(t.Context(), w.js, serverName, w.gen); err != nil {
			t.Fatal(err)
		}
		w.ensureStream()
	},
}

// republish sends a stored message again, changed.
func (w *world) republish(t *testing.T, s jetstream.Stream, seq uint64, change func([]byte) []byte) {
	t.Helper()
	m, err := s.GetMsg(t.Context(), seq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.js.Publish(t.Context(), protocol.BlocksSubject(serverName), change(m.Data)); err != nil {
		t.Fatal(err)
	}
}

// replaceFrom makes the stream hold what it held, with the middle message changed.
func (w *world) replaceFrom(t *testing.T, s jetstream.Stream, change func([]byte) []byte) {
	t.Helper()
	info := s.CachedInfo()
	first, last := info.State.FirstSeq, info.State.LastSeq
	for seq := first; seq <= last; seq++ {
		w.republish(t, s, seq, func(b []byte) []byte {
			if seq == (first+last)/2 {
				return change(b)
			}
			return b
		})
	}
	if err := s.Purge(t.Context(), jetstream.WithPurgeSequence(last+1)); err != nil {
		t.Fatal(err)
	}
}

func TestABrokerThatLosesOrChangesMessagesChangesNoPoint(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	for name, damage := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 3))
			w := newWorld(t, 8<<20)
			w.fill(rng, 60)
			replica := w.startReplica()
			w.startAgent(false)
			w.awaitContinuous()
			w.await("rest", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Lag == 0 })
			if err := replica.stop(); err != nil {
				t.Fatal(err)
			}
			w.fill(rng, 40)
			w.await("frames in the stream", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
				return a.Disks[0].Need == 0 && a.Disks[0].Pending > 0
			})
			time.Sleep(300 * time.Millisecond)
			s, err := w.js.Stream(t.Context(), protocol.StreamName(serverName, w.gen))
			if err != nil {
				t.Fatal(err)
			}
			if s.CachedInfo().State.Msgs < 2 {
				t.Fatalf("%d messages wait, want some", s.CachedInfo().State.Msgs)
			}
			damage(t, w, s)
			w.startReplica()
			w.await("rest after the fault", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
				return a.Lag == 0 && a.Disks[0].Pending == 0 && a.Replication == protocol.ReplicationContinuous
			})
			if !w.takePoint("after") && !w.takePoint("again") {
				t.Error("no point could be taken after the fault")
			}
		})
	}
}

func TestAStreamThatVanishesUnderARunningReplicaIsFollowed(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 8<<20)
	w.fill(rng, 60)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	if !w.takePoint("before") {
		t.Error("no point before the fault")
	}
	faults["the stream is made anew"](t, w, nil)
	w.fill(rng, 60)
	w.await("rest after the fault", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Lag == 0 && a.Replication == protocol.ReplicationContinuous
	})
	if !w.takePoint("after") && !w.takePoint("again") {
		t.Error("no point could be taken after the fault")
	}
}

func TestAnUnreadableSourceOffersNoPointUntilItIsRead(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 8<<20)
	w.fill(rng, 60)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	w.source.broken.Store(true)
	w.fill(rng, 5)
	w.await("problem", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		for _, p := range a.Problems {
			if p.Code == protocol.ProblemSourceRead {
				return true
			}
		}
		return false
	})
	if w.takePoint("meanwhile") {
		t.Error("a point was taken while a granule was unread")
	}
	w.source.broken.Store(false)
	time.Sleep(4 * time.Second)
	if !w.takePoint("after") {
		t.Error("no point after the disk was readable again")
	}
}

func TestAnotherVolumeGetsEverythingAgain(t *testing.T) {
	t.Parallel()
	for name, writes := range map[string]int{"busy": 5, "idle": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			anotherVolume(t, writes)
		})
	}
}

func anotherVolume(t *testing.T, writes int) {
	t.Helper()
	rng := rngOf(t)
	w := newWorld(t, 8<<20)
	w.fill(rng, 60)
	replica := w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	if err := replica.stop(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	old := w.volumePath(0)
	w.volumes[0] = "vol-0000000000000beef"
	w.newVolume(0)
	w.mu.Unlock()
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	w.startReplica()
	w.fill(rng, writes)
	w.await("full sync", func(a protocol.AgentReport, r protocol.ReplicaStatus) bool {
		return r.Naks > 0 && a.Replication == protocol.ReplicationContinuous && a.Lag == 0
	})
	if !w.takePoint("after") {
		t.Error("no point on the new volume")
	}
}

func TestATaintedTrackerSendsEverythingAgain(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 8<<20)
	w.fill(rng, 60)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	// A write that the tracker does not see.
	b := make([]byte, 4096)
	b[0] = 1
	if _, err := w.source.disks[0].WriteAt(b, 1<<20); err != nil {
		t.Fatal(err)
	}
	w.source.taint.Add(1)
	time.Sleep(2 * drainPause)
	w.mu.Lock()
	w.agent = protocol.AgentReport{} // of before
	w.mu.Unlock()
	w.awaitContinuous()
	if !w.takePoint("after") {
		t.Error("no point after everything was sent again")
	}
}

func TestAnAgentWhoseClockWentBackFindsItsPlace(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 4<<20)
	w.fill(rng, 20)
	replica := w.startReplica()
	a := w.startAgent(false)
	w.awaitContinuous()
	if err := errors.Join(a.stop(), replica.stop()); err != nil {
		t.Fatal(err)
	}
	// The last session was opened in a year to come, and the reboot has taken what the agent knew of it.
	kv, err := w.js.KeyValue(t.Context(), protocol.BucketCheckpoints)
	if err != nil {
		t.Fatal(err)
	}
	key := serverName + "." + w.gen
	e, err := kv.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var c protocol.Checkpoint
	if err := json.Unmarshal(e.Value(), &c); err != nil || c.Epoch == 0 {
		t.Fatalf("checkpoint %+v, %v", c, err)
	}
	c.Epoch += uint64(10 * 365 * 24 * time.Hour)
	body, err := json.Marshal(c)
	if err == nil {
		_, err = kv.Put(t.Context(), key, body)
	}
	if err := errors.Join(err, os.RemoveAll(filepath.Join(w.dir, "run"))); err != nil {
		t.Fatal(err)
	}
	w.fill(rng, 20)
	w.mu.Lock()
	w.agent = protocol.AgentReport{} // of before
	w.mu.Unlock()
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	if !w.takePoint("after") {
		t.Error("no point after the clock went back")
	}
}

// drainPause is how long the agent may leave marks in the tracker.
const drainPause = 250 * time.Millisecond
