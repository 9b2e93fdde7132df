package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"rehost/test/stamp"
)

const (
	// healLimit is how long the system may take to be CONTINUOUS again by itself.
	healLimit = 90 * time.Second
	// pointTries is how many points may fail in a row when nothing is broken.
	pointTries = 5
)

func TestMain(m *testing.M) { os.Exit(stamp.Main(m)) }

// setting returns a number from the environment, so that a run can be repeated or made longer.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// run is a world that is being broken.
type run struct {
	t      *testing.T
	w      *stamp.World
	rng    *rand.Rand
	points int // taken and equal
	missed int // ordered and not taken
}

func newRun(t *testing.T, volatile bool) *run {
	t.Helper()
	seed := setting(t, "REHOST_SEED", uint64(time.Now().UnixNano()))
	t.Logf("repeat with REHOST_SEED=%d", seed)
	r := &run{t: t, w: stamp.New(t, stamp.Options{Seed: seed, Volatile: volatile}), rng: rand.New(rand.NewPCG(seed, 99))}
	r.w.StartWriters()
	r.w.AwaitContinuous(healLimit)
	return r
}

// try orders one point; whatever is held is compared.
func (r *run) try() bool {
	r.t.Helper()
	ok, why := r.w.Point(fmt.Sprintf("p%d", r.points+r.missed))
	if ok {
		r.points++
	} else {
		r.missed++
		r.t.Logf("    point not taken: %s", why)
	}
	return ok
}

// heal waits until the system has found its way back, and takes a point. The first one may meet a fault that nobody had
// noticed.
func (r *run) heal() {
	r.t.Helper()
	start := time.Now()
	for range pointTries {
		r.w.AwaitContinuous(healLimit)
		if r.try() {
			r.t.Logf("  a point that is equal after %s", time.Since(start).Round(time.Millisecond))
			return
		}
	}
	r.t.Fatalf("no point in %d tries, with nothing broken any more", pointTries)
}

// thawed checks that nothing is left frozen: each filesystem takes a write within a second.
func (r *run) thawed() {
	r.t.Helper()
	for _, d := range r.w.Disks {
		for _, p := range d.Parts {
			if p.Mount == "" {
				continue
			}
			done := make(chan error, 1)
			go func() { // ends when the filesystem takes the write
				path := filepath.Join(p.Mount, "thawed")
				done <- errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Remove(path))
			}()
			select {
			case err := <-done:
				if err != nil {
					r.t.Error(err)
				}
			case <-time.After(5 * time.Second):
				r.t.Errorf("%s is frozen", p.Mount)
			}
		}
	}
}

// Processes are killed at random moments, many of them while a point is taken. REHOST_KILLS says how many,
// REHOST_VICTIM that only one kind is.
func TestKilledProcessesChangeNoPoint(t *testing.T) {
	kills := int(setting(t, "REHOST_KILLS", 10))
	r := newRun(t, true)
	k := &killer{w: r.w, rng: rand.New(rand.NewPCG(r.w.Seed, 100)), only: os.Getenv("REHOST_VICTIM"), kills: map[string]int{}}
	for k.total() < kills {
		done := make(chan []string)
		go func() { done <- k.burst(min(1+r.rng.IntN(5), kills-k.total())) }()
		var names []string
		for names == nil {
			select {
			case names = <-done:
			default:
				r.try()
			}
		}
		t.Logf("killed: %s", strings.Join(names, ", "))
		r.thawed()
		r.heal()
	}
	t.Logf("%v killed; %d points are equal, %d were not taken", k.kills, r.points, r.missed)
}

// The broker and the volumes fail in every way there is, one after the other. REHOST_FAULTS says how many faults there
// are, REHOST_FAULT names one.
func TestBrokerFaultsChangeNoPoint(t *testing.T) {
	r := newRun(t, false)
	for n := int(setting(t, "REHOST_FAULTS", 4)); n > 0; n -= len(faults) {
		for _, i := range r.rng.Perm(len(faults))[:min(n, len(faults))] {
			if only := os.Getenv("REHOST_FAULT"); only != "" && only != faults[i].name {
				continue
			}
			t.Log(faults[i].name)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			err := faults[i].run(ctx, r.w, r.rng)
			cancel()
			if err != nil {
				t.Fatalf("%s: %v", faults[i].name, err)
			}
			r.heal()
		}
	}
	r.thawed()
	t.Logf("%d points are equal, %d were not taken", r.points, r.missed)
}

// Something fails while processes are killed. REHOST_STORMS says how often. A fault that the killing prevented is none.
func TestFaultsAndKillsTogetherChangeNoPoint(t *testing.T) {
	r := newRun(t, true)
	k := &killer{w: r.w, rng: rand.New(rand.NewPCG(r.w.Seed, 100)), kills: map[string]int{}}
	prevented := 0
	for range setting(t, "REHOST_STORMS", 2) {
		f := faults[r.rng.IntN(len(faults))]
		n := 1 + r.rng.IntN(3)
		done := make(chan []string)
		go func() { done <- k.burst(n) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := f.run(ctx, r.w, r.rng)
		cancel()
		if err != nil {
			prevented++
			t.Logf("  %v", err)
		}
		t.Logf("%s; killed: %s", f.name, strings.Join(<-done, ", "))
		r.thawed()
		r.heal()
	}
	t.Logf("%v killed, %d faults prevented by it; %d points are equal, %d were not taken", k.kills, prevented, r.points, r.missed)
}
