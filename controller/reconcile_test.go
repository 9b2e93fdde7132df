package controller

import (
	"slices"
	"strconv"
	"sync"
	"testing"
)

// With more servers than workers, those at the end of the list must have their turn before those at its head have another.
func TestEveryServerIsLookedAt(t *testing.T) {
	w := newWorkers()
	var mu sync.Mutex
	seen := map[string]int{}
	release := make(chan struct{})
	for round := range 2 {
		for i := range 3 * maxWorkers {
			name := strconv.Itoa(i)
			w.try(name, func() {
				<-release // the cloud takes its time
				mu.Lock()
				defer mu.Unlock()
				seen[name]++
			})
		}
		if round == 1 {
			close(release)
		}
	}
	w.wg.Wait()
	if len(seen) != 3*maxWorkers {
		t.Fatalf("%d of %d servers were looked at", len(seen), 3*maxWorkers)
	}
	var counts []int
	for _, n := range seen {
		counts = append(counts, n)
	}
	if slices.Max(counts) > 1 {
		t.Errorf("a server was looked at %d times meanwhile", slices.Max(counts))
	}
}
