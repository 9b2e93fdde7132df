package pipeline

import (
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"rehost/internal/bus"
	"rehost/protocol"
)

// TestASnapshotIsComparedWithTheSource compares a point's snapshot with a source that is written to all the time: only what
// nobody has written to since the point can be judged, and there each flipped bit is found.
func TestASnapshotIsComparedWithTheSource(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	rng := rngOf(t)
	w := newWorld(t, size)
	w.fill(rng, 300)
	var snapshot []byte
	w.after = func(string) {
		b, err := os.ReadFile(w.volumePath(0))
		if err != nil {
			t.Error(err)
		}
		snapshot = b
	}
	w.serveSnapshot(0, func() []byte { return snapshot })
	w.startReplica()
	a := w.startAgent(false)
	w.awaitContinuous()
	stop := w.churn(rand.New(rand.NewPCG(rng.Uint64(), 1)))
	for i := 0; !w.takePoint("p"); i++ {
		if i == 20 {
			t.Fatal("no point came off")
		}
		w.forget()
	}
	written := w.source.writes.Load()
	v := w.verified("busy", "p")
	if v.Differences != 0 || v.Problem != nil || v.Done != size || v.Point != "p" || !v.Last.IsZero() {
		t.Errorf("against the snapshot of a busy source: %+v", v)
	}
	if n := w.source.writes.Load() - written; v.Skipped == 0 || v.Skipped == size || n == 0 {
		t.Errorf("%d bytes were skipped, %d writes since the point: this shows nothing", v.Skipped, n)
	}
	stop()
	w.await("rest", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Lag == 0 })
	w.forget()
	if !w.takePoint("quiet") {
		t.Fatal("no point of a quiet source")
	}
	for _, at := range []int{7, 5*granule + 1, size - 1} {
		snapshot[at] ^= 1
	}
	if v := w.verified("rot", "quiet"); v.Differences != 3 || v.Skipped != 0 {
		t.Errorf("three flipped bits: %+v", v)
	}
	w.mu.Lock()
	if problems := w.agent.Problems; len(problems) != 1 || problems[0].Code != protocol.ProblemIntegrity {
		t.Errorf("problems: %+v", problems)
	}
	w.mu.Unlock()
	if v := w.verified("replica", ""); v.Differences != 0 {
		t.Errorf("the replica differs: %+v", v)
	}
	if v := w.verified("older", "p"); v.Problem == nil || v.Problem.Hint == "" {
		t.Errorf("a point that is not the newest: %+v", v)
	}
	w.mu.Lock()
	kept := snapshot
	snapshot = nil
	w.mu.Unlock()
	if v := w.verified("gone", "quiet"); v.Problem == nil || v.Problem.Code != protocol.ProblemUnknown {
		t.Errorf("a snapshot that is gone: %+v", v)
	}
	w.mu.Lock()
	snapshot = kept
	w.mu.Unlock()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	w.forget()
	w.startAgent(true)
	w.awaitContinuous()
	if v := w.verified("after a restart", "quiet"); v.Problem == nil {
		t.Errorf("a new process does not know what was written since: %+v", v)
	}
}

// TestAComparisonOutlivesTheNextPoint takes a point while the snapshot of the one before is compared, as a schedule does: the
// comparison goes on, and what was written between the two is not taken for a difference.
func TestAComparisonOutlivesTheNextPoint(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20)
	w.fill(rng, 300)
	snapshots := map[string][]byte{}
	w.after = func(id string) {
		b, err := os.ReadFile(w.volumePath(0))
		if err != nil {
			t.Error(err)
		}
		snapshots[id] = b
	}
	// So slow that the comparison of a few ranges is longer than a point.
	w.serveSnapshot(200*time.Millisecond, func() []byte { return snapshots["older"] })
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	if !w.takePoint("older") {
		t.Fatal("no point of a quiet source")
	}
	w.orderVerify("slow", "older")
	w.await("the comparison to begin", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Verify != nil && a.Verify.ID == "slow" && a.Verify.Done > 0
	})
	w.fill(rng, 300)
	if !w.takePoint("newer") {
		t.Fatal("no point during the comparison")
	}
	w.mu.Lock()
	if v := w.agent.Verify; v == nil || v.ID != "slow" || !v.Ended.IsZero() {
		t.Errorf("the comparison was over before the next point was: %+v", v)
	}
	w.mu.Unlock()
	if v := w.awaitVerified("slow"); v.Problem != nil || v.Differences != 0 || v.Done != 24<<20 || v.Skipped == 0 {
		t.Errorf("the comparison across a point: %+v", v)
	}
}

// verified orders a comparison and returns its outcome.
func (w *world) verified(id, point string) protocol.VerifyReport {
	w.tb.Helper()
	w.orderVerify(id, point)
	return w.awaitVerified(id)
}

func (w *world) orderVerify(id, point string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verify = &protocol.VerifyOrder{ID: id, Point: point}
}

func (w *world) awaitVerified(id string) (v protocol.VerifyReport) {
	w.tb.Helper()
	w.await("verify "+id, func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		if a.Verify == nil || a.Verify.ID != id || a.Verify.Ended.IsZero() {
			return false
		}
		v = *a.Verify
		return true
	})
	return v
}

// serveSnapshot answers for the cloud, each time after a delay; content is called with mu held.
func (w *world) serveSnapshot(delay time.Duration, content func() []byte) {
	w.tb.Helper()
	err := bus.Serve(w.tb.Context(), w.nc, w.log, "cloud", bus.Handle("snapshot", protocol.SnapshotSubject("*"), func(_ context.Context, r protocol.SnapshotRequest) (out protocol.SnapshotReply, err error) {
		time.Sleep(delay)
		w.mu.Lock()
		whole := content()
		w.mu.Unlock()
		if whole == nil {
			return out, &protocol.Problem{Code: protocol.ProblemUnknown, Message: "there is no such snapshot"}
		}
		for b := whole[r.Offset : r.Offset+r.Length]; len(b) > 0; {
			n := min(r.GranuleBytes, int64(len(b)))
			h := xxh3.Hash128(b[:n]).Bytes()
			out.Hashes, b = append(out.Hashes, h[:]...), b[n:]
		}
		return out, nil
	}))
	if err != nil {
		w.tb.Fatal(err)
	}
}
