package controller

import (
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"rehost/controller/internal/point"
	"rehost/controller/internal/staging"
	"rehost/protocol"
)

// restTicks is how many ticks pass between two looks at a server of which nothing is awaited. What it is to be, when something
// comes up, shows at once: in a report, or in its record.
const restTicks = 10

// looks says when each server is due. A fleet at rest costs little: it is looked at because something has changed, and
// otherwise now and then.
type looks struct {
	mu      sync.Mutex
	applied uint64          // revision of the configuration that the last looks were taken with
	last    map[string]seen // by server
	touched map[string]bool // servers of which something was heard since their last look began
}

type seen struct {
	revision uint64 // of the record, when the look began
	next     time.Time
}

func newLooks() *looks { return &looks{last: map[string]seen{}, touched: map[string]bool{}} }

// due picks the servers to look at now. applied is the revision of the configuration, and revision tells that of a record.
func (l *looks) due(names []string, applied uint64, revision func(server string) uint64, now time.Time) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if applied != l.applied {
		l.applied = applied
		clear(l.last)
	}
	var out []string
	for _, name := range names {
		if s, ok := l.last[name]; !ok || l.touched[name] || !now.Before(s.next) || s.revision != revision(name) {
			out = append(out, name)
		}
	}
	return out
}

// touch makes servers due, also those at which somebody looks just now: what was heard may have come too late for that look.
func (l *looks) touch(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		l.touched[name] = true
	}
}

func (l *looks) begin(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.touched, name)
}

// done notes a look that began when the record had a revision.
func (l *looks) done(name string, revision uint64, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last[name] = seen{revision, next}
}

// pause returns for how long a server may be left alone after a look at it.
func (c *controller) pause(name string) time.Duration {
	rec, err := c.store.Servers.Get(name)
	if err != nil {
		return 0
	}
	points, err := c.store.Points.List(name + ".")
	_, _, known := c.reports.Agent(name)
	if err != nil || !resting(rec, points, known) {
		return 0
	}
	// Not all of a fleet at one moment.
	return time.Duration((0.75 + rand.Float64()/2) * restTicks * float64(c.cfg.Timing.Tick))
}

// resting says that nothing is awaited of a server but its reports.
func resting(r protocol.Server, points []protocol.Point, known bool) bool {
	switch {
	case r.Job != "" || r.Move != nil || r.Replacing != "" || r.Problem != nil || r.PointOrder != nil || slices.ContainsFunc(points, point.Active):
		return false
	case r.Lifecycle == protocol.Disconnected || !r.Stopped.IsZero():
		return r.Generation == "" // nothing of it is left
	case r.Generation == "":
		return !known // its agent has yet to come
	case !r.Finalized.IsZero():
		return true
	}
	return r.Wanted != protocol.WantDisconnect && staging.Initiated(r)
}
