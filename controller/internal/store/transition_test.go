package store

import (
	"math/rand/v2"
	"testing"
	"time"

	"rehost/protocol"
)

// TestEveryTransitionIsInTheRecord changes a record at random, with a clock that stands still and goes back, and reads its transitions the
// way in which they are told: after each some changes.
func TestEveryTransitionIsInTheRecord(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	lifecycles := []protocol.Lifecycle{protocol.NotReady, protocol.ReadyForTest, protocol.Testing, protocol.CuttingOver}
	replications := []protocol.Replication{"", protocol.ReplicationContinuous, protocol.ReplicationBacklog, protocol.ReplicationStalled}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var record protocol.Server
	var want, got []protocol.Transition
	last := int64(0)
	for range 2000 {
		before := record
		record.Lifecycle = lifecycles[random.IntN(len(lifecycles))]
		record.Replication = replications[random.IntN(len(replications))]
		now = now.Add(time.Duration(random.IntN(3)-1) * time.Second)
		transitions(before, &record, now)
		for _, w := range []protocol.Transition{
			{What: protocol.TransitionLifecycle, From: string(before.Lifecycle), To: string(record.Lifecycle)},
			{What: protocol.TransitionReplication, From: string(before.Replication), To: string(record.Replication)},
		} {
			if w.From != w.To {
				want = append(want, w)
			}
		}
		if random.IntN(maxTransitions/4) > 0 { // at most two a change: seldom more than there is room for
			if len(want)-len(got) < maxTransitions-2 {
				continue
			}
		}
		for _, n := range record.Transitions {
			if n.Number() > last {
				got, last = append(got, protocol.Transition{What: n.What, From: n.From, To: n.To}), n.Number()
			}
		}
		if len(got) != len(want) || len(record.Transitions) > maxTransitions {
			t.Fatalf("%d of %d transitions are told, %d kept", len(got), len(want), len(record.Transitions))
		}
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("transition %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}
