package barrier

import (
	"fmt"
	"testing"
	"time"

	"rehost/protocol"
)

func TestAPointOfAllServersIsOneMoment(t *testing.T) {
	oneMoment(t, newWorld(t), 50)
}

// One replication server holds as many volumes as it is given by default, each of another source that sends all the
// time, and stops all of them at one moment.
func TestAReplicationServerWithAllItsVolumes(t *testing.T) {
	var servers []string
	for i := range 15 {
		servers = append(servers, fmt.Sprintf("app-%d", i+1))
	}
	oneMoment(t, worldOf(t, servers, 256<<10), 5)
}

func oneMoment(t *testing.T, w *world, points int) {
	t.Helper()
	w.chatter()
	good, seen := 0, 0
	for i := 0; good < points; i++ {
		if i == 2*points {
			t.Fatalf("%d of %d points came off", good, i)
		}
		id := fmt.Sprintf("p-%d", i)
		if w.takePoint(id, true, func() {
			strays, tokens := w.strays()
			if strays > 0 {
				t.Errorf("%s: %d of %d tokens were received and never sent", id, strays, tokens)
			}
			seen = tokens
		}) {
			good++
		}
	}
	if seen < 1000 {
		t.Errorf("%d tokens at the last point do not show much", seen)
	}
	w.wantThawed()
	t.Logf("%d tokens at the last of %d points", seen, good)
}

// The test above must be able to fail: points that each server takes for itself are not one moment.
func TestPointsOfEachServerAreNotOneMoment(t *testing.T) {
	w := newWorld(t)
	w.chatter()
	for i := range 10 {
		found := 0
		w.takePoint(fmt.Sprintf("p-%d", i), false, func() { found, _ = w.strays() })
		if found > 0 {
			return
		}
	}
	t.Error("no token went astray in 10 points without a barrier")
}

func TestOneThatCannotFreezeThawsAll(t *testing.T) {
	w := newWorld(t)
	w.chatter()
	w.sources["db-1"].broken.Store(true)
	if w.takePoint("p-1", true, func() {}) {
		t.Error("the point is offered")
	}
	w.wantNoneOffered("p-1", "")
	w.wantThawed()
	w.sources["db-1"].broken.Store(false)
	if !w.takePoint("p-2", true, func() {}) {
		t.Error("the next point failed too")
	}
}

// wantNoneOffered holds that no server but one sent its part.
func (w *world) wantNoneOffered(id, but string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range w.servers {
		if name != but && (w.failedLocked(name, id) == nil || w.heldLocked(name, id)) {
			w.t.Errorf("%s did not give point %s up", name, id)
		}
	}
}

// An agent that dies before it arrives says nothing to anybody: the others have their own patience, which is short while
// they are frozen.
func TestOneThatDiesThawsAll(t *testing.T) {
	for _, phase := range protocol.BarrierPhases {
		t.Run(string(phase), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && phase != protocol.BarrierFrozen {
				t.Skip("takes as long as agents wait for each other before they freeze")
			}
			w := newWorld(t)
			const dead = "db-1"
			w.mu.Lock()
			died := false
			w.arrive = func(server string, r protocol.BarrierRequest) bool {
				died = died || server == dead && r.Phase == phase // one request at a time is handled
				if died && server == dead && r.Error == "" {
					go w.stop[dead]()
				}
				return server != dead || !died
			}
			w.mu.Unlock()
			w.orderPoint("p-1", true)
			w.await("end of the point", func() bool {
				return w.failedLocked("app-1", "p-1") != nil && w.failedLocked("app-2", "p-1") != nil
			})
			w.wantNoneOffered("p-1", dead)
			w.wantThawed()
			for _, name := range w.servers {
				if n := w.sources[name].freezes.Load(); (n > 0) != (phase == protocol.BarrierFrozen) {
					t.Errorf("%s was frozen %d times", name, n)
				}
			}
		})
	}
}

// An agent that dies when all are frozen, and comes back while the order still stands, must not take its part of the
// point from what its disk holds by then.
func TestOneThatComesBackDoesNotTakeItsPartLater(t *testing.T) {
	w := newWorld(t)
	const dead = "db-1"
	killed := make(chan struct{})
	w.mu.Lock()
	died := false
	w.answer = func(server string, r protocol.BarrierRequest) bool {
		if server != dead || r.Phase != protocol.BarrierFrozen || died {
			return server != dead || r.Error == ""
		}
		died = true
		go func() { w.stop[dead](); close(killed) }()
		return false
	}
	w.arrive = func(server string, r protocol.BarrierRequest) bool { return server != dead || r.Error == "" }
	w.mu.Unlock()
	w.orderPoint("p-1", true)
	select {
	case <-killed:
	case <-time.After(30 * time.Second):
		t.Fatal("nobody came to the last phase")
	}
	w.mu.Lock()
	delete(w.agents, dead)
	w.mu.Unlock()
	w.startAgent(dead)
	w.await("end of the point", func() bool { return w.failedLocked(dead, "p-1") != nil || w.heldLocked(dead, "p-1") })
	w.mu.Lock()
	if w.heldLocked(dead, "p-1") {
		t.Error("the agent that came back took its part of the point")
	}
	w.mu.Unlock()
	w.wantThawed()
}
