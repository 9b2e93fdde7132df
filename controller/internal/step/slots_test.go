package step

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestSlotsKeepEachLimit lets many servers of jobs and sites be worked on at once; some give up waiting. No limit is passed, each is reached, and
// nothing is left taken.
func TestSlotsKeepEachLimit(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	s := newSlots()
	most := map[string]int{"all": 5, "job 0": 2, "job 1": 4, "job 2": 4, "site 0": 1, "site 1": 3}
	var mu sync.Mutex
	running, peak := map[string]int{}, map[string]int{}
	change := func(limits []limit, by int) {
		mu.Lock()
		defer mu.Unlock()
		for _, l := range limits {
			running[l.of] += by
			peak[l.of] = max(peak[l.of], running[l.of])
			if running[l.of] > l.most {
				t.Errorf("%d of %s at once, which may have %d", running[l.of], l.of, l.most)
			}
		}
	}
	var wg sync.WaitGroup
	for i := range 400 {
		var limits []limit
		for _, of := range []string{"all", fmt.Sprintf("job %d", r.IntN(3)), fmt.Sprintf("site %d", r.IntN(2))} {
			limits = append(limits, limit{of, most[of]})
		}
		patience, work := time.Minute, time.Duration(r.IntN(2000))*time.Microsecond
		if i%5 == 0 {
			patience = work
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if !s.take(ctx, limits) {
				if patience == time.Minute {
					t.Errorf("%v never came to its turn", limits)
				}
				return
			}
			change(limits, 1)
			time.Sleep(work)
			change(limits, -1)
			s.give(limits)
		})
	}
	wg.Wait()
	for of, n := range most {
		if of != "all" && peak[of] == 0 || of == "site 1" && peak[of] < n {
			t.Errorf("%s had %d at most, of %d", of, peak[of], n)
		}
	}
	if len(s.used) > 0 || len(s.waiting) > 0 {
		t.Errorf("left taken: %v, and %d wait", s.used, len(s.waiting))
	}
}

// TestOneLimitHoldsUpNoOther: a server of a full site waits, and the next one, of another site, does not wait behind it.
func TestOneLimitHoldsUpNoOther(t *testing.T) {
	s := newSlots()
	full, other := []limit{{"all", 3}, {"site full", 1}}, []limit{{"all", 3}, {"site other", 1}}
	if !s.take(t.Context(), full) {
		t.Fatal("there is room")
	}
	second := make(chan bool)
	go func() { second <- s.take(t.Context(), full) }()
	for { // until it waits
		s.mu.Lock()
		n := len(s.waiting)
		s.mu.Unlock()
		if n == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if !s.take(ctx, other) {
		t.Fatal("a server of another site waits behind a full one")
	}
	s.give(full)
	if !<-second {
		t.Fatal("it did not come to its turn")
	}
}

// TestWhoGivesUpHoldsNothing: also when a place was given in the same moment.
func TestWhoGivesUpHoldsNothing(t *testing.T) {
	s := newSlots()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s.take(ctx, []limit{{"all", 1}}) || s.inUse("all") != 0 {
		t.Errorf("%d places are held by one that has given up", s.inUse("all"))
	}
}
