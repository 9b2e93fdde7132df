package step

import (
	"context"
	"slices"
	"sync"

	"rehost/controller/internal/fleet"
)

// limit is a number of servers that are worked on at once.
type limit struct {
	of   string
	most int
}

// slots are the places of servers that are worked on, by what limits them: each job, each site, and all jobs together. Who is there first is served
// first, and who has to wait for one of several limits holds none of them up.
type slots struct {
	mu      sync.Mutex
	used    map[string]int // by what limits
	waiting []*waiter
}

// waiter waits for a place under each of its limits.
type waiter struct {
	limits []limit
	given  chan struct{}
}

// allJobs is what limits all jobs together.
const allJobs = "all jobs"

// atOnce is how many servers all jobs together work on.
func (r *Runner) atOnce() int { return max(1, r.cfg.Servers) }

// limits are those that the server counts for now. A site is a replication block.
func (w *Work) limits() []limit {
	out := []limit{{allJobs, w.atOnce()}, {"job " + w.job, max(1, w.most)}}
	if _, replication, _, _ := fleet.Settings(w.store.Applied(), w.server); replication.Concurrency > 0 {
		out = append(out, limit{"site " + replication.Name, replication.Concurrency})
	}
	return out
}

// takeSlot waits until the server may be worked on, if it is not yet. It says false when ctx ended first.
func (w *Work) takeSlot(ctx context.Context) bool {
	if w.slot != nil {
		return true
	}
	limits := w.limits()
	if !w.slots.take(ctx, limits) {
		return false
	}
	w.slot = limits
	w.quota.begin()
	return true
}

// giveSlot lets another server be worked on.
func (w *Work) giveSlot() {
	if w.slot != nil {
		w.quota.end()
		w.slots.give(w.slot)
		w.slot = nil
	}
}

func newSlots() *slots { return &slots{used: map[string]int{}} }

// take waits until there is a place under each of these limits. It says false when ctx ended first, and then none is taken.
func (s *slots) take(ctx context.Context, limits []limit) bool {
	w := &waiter{limits, make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.serve()
	s.mu.Unlock()
	select {
	case <-w.given:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, w); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	} else {
		s.free(limits)
	}
	return false
}

// give frees what was taken.
func (s *slots) give(limits []limit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free(limits)
}

// inUse is how many places a limit has given.
func (s *slots) inUse(of string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used[of]
}

func (s *slots) free(limits []limit) {
	for _, l := range limits {
		if s.used[l.of]--; s.used[l.of] == 0 {
			delete(s.used, l.of)
		}
	}
	s.serve()
}

// serve gives places to those that wait, in their order.
func (s *slots) serve() {
	s.waiting = slices.DeleteFunc(s.waiting, func(w *waiter) bool {
		if slices.ContainsFunc(w.limits, func(l limit) bool { return s.used[l.of] >= l.most }) {
			return false
		}
		for _, l := range w.limits {
			s.used[l.of]++
		}
		close(w.given)
		return true
	})
}
