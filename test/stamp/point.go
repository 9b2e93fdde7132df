package stamp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"rehost/protocol"
)

const (
	poll = 20 * time.Millisecond
	// pointLimit bounds a point, from the order to the hold. One whose frame was lost on the way is never held.
	pointLimit = 30 * time.Second
	// keptCopies is how many points may pass before a late one is held, whose frozen copy is still needed.
	keptCopies = 6
)

// Point orders a point and compares the replica when it holds it. A point that was not taken, or was lost, gives why;
// a difference fails the test at once.
func (w *World) Point(id string) (ok bool, why string) {
	w.TB.Helper()
	w.dropCopies()
	w.order(id)
	defer w.order("")
	for deadline := time.Now().Add(pointLimit); ; <-time.After(poll) {
		if w.settle() == id {
			return true, ""
		}
		a, _ := w.reports()
		for _, p := range a.Points {
			if p.ID == id && p.State == protocol.PointFailed {
				return false, p.Problem.Message
			}
		}
		if time.Now().After(deadline) {
			return false, "lost: not held after " + pointLimit.String()
		}
	}
}

// settle compares what the replica holds, if it does, lets it go on, and returns the point's id.
func (w *World) settle() (id string) {
	w.TB.Helper()
	_, r := w.reports()
	if r.Held == nil || w.isReleased(r.Held.ID) {
		return ""
	}
	id = r.Held.ID
	frozen := w.copyOf(*r.Held)
	if w.Check != nil {
		w.Check(frozen)
	} else {
		w.compare(id, frozen)
	}
	w.release(id)
	return id
}

func (w *World) compare(id, frozen string) {
	w.TB.Helper()
	for i := range w.Disks {
		if err := Compare(i, filepath.Join(frozen, fmt.Sprintf("%d.disk", i)), w.VolumePath(i)); err != nil {
			w.TB.Fatalf("DIFFERENCE at point %s, seed %d: %v", id, w.Seed, err)
		}
	}
}

// copyOf finds the frozen copy of a point: the first that was made after the disks stood still. There are several when an
// agent was killed and its successor took the same point again.
func (w *World) copyOf(mark protocol.PointMark) string {
	w.TB.Helper()
	all, err := filepath.Glob(filepath.Join(w.pool, mark.ID+".*"))
	if err != nil {
		w.TB.Fatal(err)
	}
	slices.Sort(all)
	for _, path := range all {
		if nanos, err := strconv.ParseInt(path[strings.LastIndexByte(path, '.')+1:], 10, 64); err == nil && nanos >= mark.Taken.UnixNano() {
			return path
		}
	}
	w.TB.Fatalf("point %s is held, taken at %s, but there is no copy of it: %q", mark.ID, mark.Taken, all)
	return ""
}

// dropCopies removes the oldest frozen copies.
func (w *World) dropCopies() {
	w.TB.Helper()
	all, err := filepath.Glob(filepath.Join(w.pool, "*.[0-9]*"))
	if err != nil {
		w.TB.Fatal(err)
	}
	age := func(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(age(a), age(b)) })
	for _, path := range all[:max(0, len(all)-keptCopies)] {
		if err := os.RemoveAll(path); err != nil {
			w.TB.Fatal(err)
		}
	}
}

// AwaitContinuous waits until the replication is CONTINUOUS and nothing waits to be compared, and fails the test when
// that takes longer than limit.
func (w *World) AwaitContinuous(limit time.Duration) {
	w.TB.Helper()
	w.Forget()
	for deadline := time.Now().Add(limit); ; <-time.After(poll) {
		w.settle()
		a, r := w.reports()
		if a.Replication == protocol.ReplicationContinuous && r.Server != "" {
			return
		}
		if time.Now().After(deadline) {
			w.TB.Fatalf("not CONTINUOUS after %s, seed %d\nagent: %+v\nreplica: %+v", limit, w.Seed, a, r)
		}
	}
}
