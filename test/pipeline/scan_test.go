package pipeline

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rehost/agent"
	"rehost/protocol"
)

// forget makes the world wait for new reports.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agent = protocol.AgentReport{}
}

// sent is what the agent has published since it started.
func (w *world) sent() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.agent.Sent
}

// behind writes to a source's disk without a mark, as somebody does before the tracker is there.
func (w *world) behind(t *testing.T, rng *rand.Rand, offset int64, bytes int) {
	t.Helper()
	b := make([]byte, bytes)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if _, err := w.source.disks[0].WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
}

// After a reboot nobody knows what was written. Everything is compared, and only what differs travels.
func TestARebootLeadsToARescanThatSendsOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 64<<20, 8<<20)
	w.fill(rng, 900)
	w.startReplica()
	a := w.startAgent(false)
	w.awaitContinuous()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	full := w.sent()
	// The boot: the marks and the granules' file are gone, and something is written before the agent is there.
	for i := range w.source.marks {
		clear(w.source.marks[i])
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "run")); err != nil {
		t.Fatal(err)
	}
	w.boot = "2"
	w.behind(t, rng, 20<<20, 100<<10)
	w.behind(t, rng, 63<<20, 4096)
	w.forget()
	w.startAgent(false)
	rescan := false
	w.await("rescan", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		rescan = rescan || a.Replication == protocol.ReplicationRescan
		return a.Replication == protocol.ReplicationContinuous
	})
	defer w.churn(rand.New(rand.NewPCG(rng.Uint64(), 1)))()
	if got, most := w.sent(), int64(9*granule); got > most || full < 10*most {
		t.Errorf("%d bytes sent by the rescan, %d by the full sync; want at most %d", got, full, most)
	}
	w.mu.Lock()
	if compared := w.agent.Disks[0].Rescanned + w.agent.Disks[1].Rescanned; compared != 72<<20 {
		t.Errorf("%d bytes compared, want all", compared)
	}
	w.mu.Unlock()
	if !w.takePoint("after") && !w.takePoint("again") {
		t.Error("no point after the rescan")
	}
}

func TestARescanGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 96<<20)
	w.fill(rng, 1200)
	w.startReplica()
	a := w.startAgent(false)
	w.awaitContinuous()
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	w.boot = "2"
	w.behind(t, rng, 20<<20, 100<<10)
	w.limit = 20 << 10 // what differs waits, what is equal does not
	w.forget()
	a = w.startAgent(false)
	w.await("rescan under way", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationRescan && a.Disks[0].Rescanned > 8<<20
	})
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.limit = 0
	left := w.agent.Disks[0].Need + w.agent.Disks[0].Pending
	w.mu.Unlock()
	w.forget()
	w.startAgent(true)
	w.awaitContinuous()
	w.mu.Lock()
	if again := w.agent.Disks[0].Rescanned; again > left {
		t.Errorf("%d bytes were compared after the restart, %d were left", again, left)
	}
	w.mu.Unlock()
	if !w.takePoint("after") {
		t.Error("no point after the rescan")
	}
}

func TestAVerifyFindsAndHealsWhatChangedOnTheReplica(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20)
	w.fill(rng, 300)
	w.startReplica()
	w.startAgent(false)
	stop := w.churn(rand.New(rand.NewPCG(rng.Uint64(), 1)))
	w.awaitContinuous()
	// A source that is written to all the time has no differences.
	if v := w.verified("busy", ""); v.Differences != 0 || v.Done != 24<<20 || v.Problem != nil {
		t.Errorf("verify under load: %+v", v)
	}
	stop()
	w.await("rest", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Lag == 0 })
	f, err := os.OpenFile(w.volumePath(0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	_, err1 := f.ReadAt(b, 9<<20+77)
	b[0] ^= 1
	_, err2 := f.WriteAt(b, 9<<20+77)
	if err := errors.Join(err1, err2, f.Close()); err != nil {
		t.Fatal(err)
	}
	if v := w.verified("rot", ""); v.Differences != 1 {
		t.Errorf("verify of a replica with one flipped bit: %+v", v)
	}
	w.mu.Lock()
	found := false
	for _, p := range w.agent.Problems {
		found = found || p.Code == protocol.ProblemIntegrity
	}
	w.mu.Unlock()
	if !found {
		t.Error("no problem says that the replica differed")
	}
	if !w.takePoint("healed") {
		t.Error("no point after the difference was healed")
	}
	if v := w.verified("once more", ""); v.Differences != 0 || v.Last.IsZero() {
		t.Errorf("verify after it was healed: %+v", v)
	}
}

// What no filesystem used when the sync began does not travel; what is written there later does.
func TestFreeSpaceIsLeftOutUntilItIsWrittenTo(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 32<<20)
	w.behind(t, rng, 0, 32<<20) // all of the disk is noise
	w.free = func() [][]agent.Range { return [][]agent.Range{{{Offset: 8<<20 + 100, Length: 16 << 20}}} }
	w.startReplica()
	a := w.startAgent(false)
	w.awaitContinuous()
	w.mu.Lock()
	free := w.agent.Disks[0].Free
	w.mu.Unlock()
	if free != 16<<20-granule {
		t.Errorf("%d bytes are left out, want %d", free, 16<<20-granule)
	}
	if sent := w.sent(); sent > 17<<20 {
		t.Errorf("%d bytes sent, want about 16 MiB", sent)
	}
	zero := make([]byte, 32<<20)
	for i := range int64(2) { // a verify must not take free space for a difference, also in another process
		w.mu.Lock()
		w.verify = &protocol.VerifyOrder{ID: string(rune('a' + i))}
		w.mu.Unlock()
		w.await("verify", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
			return a.Verify != nil && a.Verify.ID == string(rune('a'+i)) && !a.Verify.Ended.IsZero() && a.Verify.Differences == 0 && a.Verify.Skipped == free
		})
		if err := a.stop(); err != nil {
			t.Fatal(err)
		}
		w.forget()
		a = w.startAgent(true)
		w.awaitContinuous()
	}
	got, err := os.ReadFile(w.volumePath(0))
	if err != nil {
		t.Fatal(err)
	}
	if string(got[9<<20:23<<20]) != string(zero[9<<20:23<<20]) {
		t.Error("free space was sent")
	}
	// Once it is written to it counts.
	b := make([]byte, 16<<20+granule)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	if err := w.source.Write(0, b, 8<<20); err != nil {
		t.Fatal(err)
	}
	if !w.takePoint("after") {
		t.Error("no point after the free space was written to")
	}
}

func TestTheBandwidthIsWhatTheOrderSays(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 64<<20)
	w.behind(t, rng, 0, 64<<20)
	const limit = 4 << 20
	w.limit = limit
	w.startReplica()
	w.startAgent(false)
	at := func(least int64) (bytes int64, when time.Time) {
		w.await("bytes", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
			bytes, when = a.Sent, a.At
			return bytes >= least
		})
		return bytes, when
	}
	from, begun := at(4 << 20)
	to, ended := at(from + 24<<20)
	got := float64(to-from) / ended.Sub(begun).Seconds()
	t.Logf("%.2f MiB/s", got/(1<<20))
	// A frame more or less at each end, and 10 %.
	if slack := 0.1*limit + 2*float64(protocol.MaxRaw)/ended.Sub(begun).Seconds(); got > limit+slack || got < limit-slack {
		t.Errorf("%.0f bytes/s, want %d", got, limit)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.agent.Slow; s == nil || s.Part != protocol.SlowLimit {
		t.Errorf("what bounds the rate is %+v, want the limit", s)
	}
}

// A clone of a server that starts with its identity writes over the replica. When it is gone, the replica becomes the
// first one's again, whatever the clone did to it.
func TestAnAgentWhoseReplicaSomebodyElseWroteToComparesEverything(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20)
	w.fill(rng, 300)
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	clone := newSource(t, w.dir, "clone", 24<<20)
	own := w.source
	w.source = clone
	w.fill(rng, 300)
	second := w.startClone()
	w.await("the clone's session", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationContinuous && a.Sent > 1<<20 && a.Host.BootID == "clone"
	})
	if err := second.stop(); err != nil {
		t.Fatal(err)
	}
	w.source = own
	w.forget()
	w.awaitContinuous()
	if !w.takePoint("after") && !w.takePoint("again") {
		t.Error("no point after the clone was gone")
	}
}

// Where no tracker works, a point is offered only when nothing was written during a whole comparison.
func TestWithoutATrackerAPointNeedsAQuietSource(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20)
	w.fill(rng, 200)
	w.source.blind = true
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	w.fill(rng, 100) // nobody marks it
	if !w.takePoint("quiet") {
		t.Error("no point of a source that nobody writes to")
	}
	stop := w.churn(rand.New(rand.NewPCG(rng.Uint64(), 1)))
	if w.takePoint("busy") {
		t.Error("a point of a source that was written to meanwhile")
	}
	stop()
	if !w.takePoint("quiet again") {
		t.Error("no point after the writers ended")
	}
}
