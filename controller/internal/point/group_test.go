package point

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"rehost/protocol"
)

// Property: however the members' looks interleave, and whoever fails before its snapshots are complete, in the end all
// members are offered or none is.
func TestAGroupIsOfferedWholeOrNotAtAll(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	outcomes := map[string]int{}
	for range 3000 {
		n := 2 + rng.IntN(4)
		members := make([]protocol.Point, n)
		for i := range members {
			members[i] = protocol.Point{Server: fmt.Sprint(i), State: protocol.PointOrdered}
		}
		risk := rng.IntN(3) * 40
		for range 400 { // one look of one member, as Points.advance has it
			m := &members[rng.IntN(n)]
			if !Active(*m) {
				continue
			}
			if len(m.Snapshots) > 0 && offerable(*m, members) {
				m.State = protocol.PointComplete
				continue
			}
			if problem, _ := lost(members); problem != nil || len(m.Snapshots) == 0 && risk > 0 && rng.IntN(risk) == 0 {
				m.State, m.Snapshots = protocol.PointLost, nil
				continue
			}
			switch _, all := allHeld(members); {
			case m.State == protocol.PointOrdered:
				m.State = protocol.PointHeld
			case m.State == protocol.PointHeld && all:
				m.State = protocol.PointSnapshotting
			case m.State == protocol.PointSnapshotting:
				m.Snapshots = []string{"snap"}
			}
		}
		for _, m := range members {
			if m.State != members[0].State {
				t.Fatalf("a part of the group is offered: %+v", members)
			}
		}
		outcomes[string(members[0].State)]++
	}
	if outcomes["complete"] < 100 || outcomes["failed"] < 100 || len(outcomes) != 2 {
		t.Errorf("outcomes %v do not show much", outcomes)
	}
}
