package ship

import (
	"fmt"
	"time"

	"rehost/protocol"
)

// leg is what a goroutine of the pipeline may spend its time on.
type leg int

const (
	legRead   leg = iota // waiting for the source's disk
	legPack              // hashing and compressing
	legLimit             // waiting for the configured bandwidth
	legWindow            // waiting for the replica to make frames durable
	legAck               // waiting for the broker to take frames
	legs
)

// slowPeriod is how long times are summed up before they are judged.
const slowPeriod = 5 * time.Second

// effort sums up where the pipeline's time goes.
type effort struct {
	since time.Time
	sum   [legs]time.Duration
	last  [legs]float64 // shares of one goroutine's time in the period before
	// What the publisher, of which there is one, waits for now; since is zero when it does not wait.
	waits      leg
	waitsSince time.Time
}

func (m *meter) spend(l leg, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.effort.sum[l] += d
}

// wait notes that the publisher waits, until the returned function is called.
func (m *meter) wait(l leg) (over func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.effort.waits, m.effort.waitsSince = l, time.Now()
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.effort.waited(time.Now())
		m.effort.waitsSince = time.Time{}
	}
}

// waited counts the wait under way as far as it has come.
func (e *effort) waited(now time.Time) {
	if !e.waitsSince.IsZero() {
		e.sum[e.waits] += now.Sub(e.waitsSince)
		e.waitsSince = now
	}
}

// turn begins a new period when one is over.
func (e *effort) turn(now time.Time) {
	took := now.Sub(e.since)
	if took < slowPeriod {
		return
	}
	e.waited(now)
	for i, d := range e.sum {
		e.last[i] = d.Seconds() / took.Seconds()
	}
	e.since, e.sum = now, [legs]time.Duration{}
}

// flow is what a judgement of the pipeline needs to know besides its own times.
type flow struct {
	open    bool
	reason  string        // why the last session ended
	silent  time.Duration // since the replica was heard of
	workers int
	load    protocol.Load
}

// Waits from which on a part counts as the one that bounds the rate, as shares of the time.
const (
	slowShare = 0.3
	busyShare = 0.5
	idleShare = 0.05
)

// slow names the part of the way that bounds the rate. The publisher waits for what is behind it; when it does not wait, the
// readers are the slow ones. It is nil when nobody waits for anything.
func (e effort) slow(f flow) *protocol.Slow {
	percent := func(x float64) string { return fmt.Sprintf("%.0f %%", 100*min(x, 1)) }
	say := func(p protocol.SlowPart, format string, args ...any) *protocol.Slow {
		return &protocol.Slow{Part: p, Evidence: fmt.Sprintf(format, args...)}
	}
	replica := fmt.Sprintf("it wrote in %s of the time, flushed in %s, and had nothing to do in %s", percent(f.load.Writing), percent(f.load.Flushing), percent(f.load.Waiting))
	switch {
	case f.silent > silentAfter:
		return say(protocol.SlowReplica, "nothing heard of the replication server for %s", f.silent.Round(time.Second))
	case !f.open && f.reason != "":
		return say(protocol.SlowBroker, "the last session ended: %s", f.reason)
	case e.last[legLimit] > slowShare:
		return say(protocol.SlowLimit, "frames waited for the configured bandwidth in %s of the time", percent(e.last[legLimit]))
	case e.last[legWindow] > slowShare && f.load.Writing+f.load.Flushing > busyShare:
		return say(protocol.SlowVolume, "the window was full in %s of the time; of the replica: %s", percent(e.last[legWindow]), replica)
	case e.last[legWindow]+e.last[legAck] > slowShare:
		return say(protocol.SlowLink, "frames waited in %s of the time for the broker to take them, in %s for the replica; of the replica: %s",
			percent(e.last[legAck]), percent(e.last[legWindow]), replica)
	case e.last[legPack] > max(e.last[legRead], idleShare):
		return say(protocol.SlowAgentCPU, "%d readers hashed and compressed in %s of the time, and waited for the disk in %s",
			f.workers, percent(e.last[legPack]/float64(f.workers)), percent(e.last[legRead]/float64(f.workers)))
	case e.last[legRead] < idleShare:
		return nil
	}
	return say(protocol.SlowSourceRead, "%d readers waited for the disk in %s of the time", f.workers, percent(e.last[legRead]/float64(f.workers)))
}
