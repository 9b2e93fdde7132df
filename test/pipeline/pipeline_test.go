package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"rehost/protocol"
)

// rngOf returns a source of randomness and prints its seed.
func rngOf(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// churn writes until the returned function is called, in bursts.
func (w *world) churn(rng *rand.Rand) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			w.fill(rng, 5)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}

func TestEveryPointEqualsTheSourceWhileItIsWritten(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20, 8<<20)
	w.fill(rng, 300)
	w.startReplica()
	w.startAgent(false)
	defer w.churn(rand.New(rand.NewPCG(rng.Uint64(), 1)))()
	w.awaitContinuous()
	for i := range 5 {
		if !w.takePoint(fmt.Sprintf("p%d", i)) {
			t.Errorf("point %d failed", i)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.agent.Lag > 5*time.Second || w.agent.Sent == 0 || w.agent.Durable.Seq == 0 {
		t.Errorf("report says %+v", w.agent)
	}
}

func TestNothingNewerThanAPointComesBeforeIt(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20)
	// Much changes just before the freeze, and a narrow window makes it go out slowly, while all of it changes again.
	w.window = 2 << 20
	stop := func() {}
	w.source.before = func() {
		w.fill(rng, 200)
		stop = w.churn(rand.New(rand.NewPCG(rng.Uint64(), 5)))
	}
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	for i := range 3 {
		ok := w.takePoint(fmt.Sprintf("p%d", i))
		stop()
		if !ok {
			t.Errorf("point %d failed", i)
		}
		w.await("rest", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Lag == 0 })
	}
}

func TestNothingIsLostThroughRestartsOfBothSides(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	w := newWorld(t, 24<<20, 8<<20)
	w.fill(rng, 200)
	replica := w.startReplica()
	a := w.startAgent(false)
	defer w.churn(rand.New(rand.NewPCG(rng.Uint64(), 1)))()
	w.awaitContinuous()
	for i := range 6 {
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		if rng.IntN(2) == 0 {
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			a = w.startAgent(true)
		} else {
			if err := replica.stop(); err != nil {
				t.Fatal(err)
			}
			replica = w.startReplica()
		}
		w.takePoint(fmt.Sprintf("p%d", i))
	}
	w.awaitContinuous()
	if !w.takePoint("last") {
		t.Error("the last point failed")
	}
	w.await("lag", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool { return a.Lag < 3*time.Second })
}
