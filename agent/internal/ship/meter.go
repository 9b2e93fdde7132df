package ship

import (
	"maps"
	"slices"
	"sync"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// silentAfter is how long a replica may say nothing before the server counts as stalled.
	silentAfter = 15 * time.Second
	// backlogLag is the lag from which a server that is in sync counts as behind.
	backlogLag = 10 * time.Second
	keptPoints = 8
	// unreadFor is longer than all tries of one read; unreadKept is how long people see it after the last.
	unreadFor  = 3 * time.Second
	unreadKept = time.Minute
)

// meter counts, and remembers what a person should know. It has no influence on what is shipped, except for the
// settings that arrive with orders.
type meter struct {
	mu       sync.Mutex
	pausedBy bool
	windowBy int64

	readBytes, sentBytes, durableBytes int64
	rate                               float64 // bytes per second
	rateBytes                          int64   // durableBytes when rate was last computed
	rateAt                             time.Time

	effort       effort
	verify       protocol.VerifyReport // the newest pass
	verifyWanted protocol.VerifyOrder  // the pass that was asked for and has not begun; without an id: none

	started    time.Time
	heard      time.Time // the last signal
	last       protocol.Signal
	movedAt    time.Time // when the replica last made progress
	problems   map[protocol.ProblemCode]protocol.Problem
	unreadAt   time.Time
	points     []protocol.PointReport
	pointAcks  map[string]bool
	everPaired bool
	untested   string // why the tracker cannot be tested by a write, or empty
}

func newMeter() *meter {
	now := time.Now()
	return &meter{started: now, effort: effort{since: now}, movedAt: now, rateAt: now, problems: map[protocol.ProblemCode]protocol.Problem{}, pointAcks: map[string]bool{}}
}

func (m *meter) read(n int64)    { m.mu.Lock(); m.readBytes += n; m.mu.Unlock() }
func (m *meter) sent(n int64)    { m.mu.Lock(); m.sentBytes += n; m.mu.Unlock() }
func (m *meter) durable(n int64) { m.mu.Lock(); m.durableBytes += n; m.mu.Unlock() }

func (m *meter) paused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pausedBy
}

func (m *meter) window(standard int64) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.windowBy > 0 {
		return m.windowBy
	}
	return standard
}

func (m *meter) problem(code protocol.ProblemCode, message, hintText string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problems[code] = protocol.Problem{Code: code, Message: message, Hint: hintText, At: time.Now()}
}

func (m *meter) clear(code protocol.ProblemCode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.problems, code)
}

// unreadable notes a read error. It is cleared by time: a granule that stays unreadable renews it at each try.
func (m *meter) unreadable(err error) (fresh bool) {
	m.problem(protocol.ProblemSourceRead, err.Error(), "look at the kernel log of the source (dmesg) and replace the disk; the range is tried again and no point is offered meanwhile")
	m.mu.Lock()
	fresh = time.Since(m.unreadAt) > unreadKept
	m.unreadAt = time.Now()
	m.mu.Unlock()
	return fresh
}

// unread returns a problem when some granule could not be read lately: no point has it.
func (m *meter) unread() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p, ok := m.problems[protocol.ProblemSourceRead]; ok && time.Since(m.unreadAt) < unreadFor {
		return &p
	}
	return nil
}

// signal notes what the replica said.
func (m *meter) signal(s protocol.Signal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.heard, m.everPaired = now, true
	if s.Durable != m.last.Durable || s.Applied != m.last.Applied || s.Held != "" {
		m.movedAt = now
	}
	m.last = s
}

// stuck says that the replica speaks and has made no progress for d.
func (m *meter) stuck(d time.Duration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	return now.Sub(m.heard) < 3*time.Second && now.Sub(m.movedAt) > d
}

// elsewhere says that the replica's last word was not that it has everything up to base.
func (m *meter) elsewhere(base protocol.Position) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last.Durable != base
}

func (m *meter) moved() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.movedAt = time.Now()
}

// point notes the state of a point; one of the same id is replaced.
func (m *meter) point(r protocol.PointReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.points = slices.DeleteFunc(m.points, func(p protocol.PointReport) bool { return p.ID == r.ID })
	m.points = append(m.points, r)
	if n := len(m.points) - keptPoints; n > 0 {
		m.points = slices.Delete(m.points, 0, n)
	}
}

// knownPoint says whether a point was begun already.
func (m *meter) knownPoint(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.points, func(p protocol.PointReport) bool { return p.ID == id })
}

func (m *meter) pointAcked(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pointAcks[id] = true
}

func (m *meter) takeAck(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pointAcks[id]
}

func (m *meter) pointDurable(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pointAcks[id] = true
	for i := range m.points {
		if m.points[i].ID == id && m.points[i].State != protocol.PointFailed {
			m.points[i].State = protocol.PointSent
		}
	}
}

// pointLost notes that the session ended before the replica said that it has the point.
func (m *meter) pointLost(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.points {
		if m.points[i].ID == id {
			m.points[i].State = protocol.PointFailed
			m.points[i].Problem = &protocol.Problem{
				Code: protocol.ProblemPoint, Message: "the session ended before the replica had the point", Hint: "take another point", At: time.Now(),
			}
		}
	}
}

// verifying notes how far a pass is.
func (m *meter) verifying(r protocol.VerifyReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.verifyWanted.ID == r.ID {
		m.verifyWanted = protocol.VerifyOrder{}
	}
	if r.Last.IsZero() {
		r.Last = m.verify.Last
	}
	m.verify = r
}

// Order passes on what the controller wants of a running shipper; bandwidth is in bytes of frames per second, 0 for none.
func (s *Shipper) Order(paused bool, window, bandwidth int64) {
	s.limit.set(bandwidth)
	s.status.mu.Lock()
	changed := s.status.pausedBy != paused || s.status.windowBy != window
	s.status.pausedBy, s.status.windowBy = paused, window
	s.status.mu.Unlock()
	if changed {
		s.mu.Lock()
		s.notifyLocked()
		s.mu.Unlock()
	}
}

// Report fills in what the shipper knows of an agent's report.
func (s *Shipper) Report(r *protocol.AgentReport) {
	now := time.Now()
	r.Tier, r.Generation = s.cfg.Tier, s.cfg.Generation
	r.Lag = s.granules.lag(now)
	need, pending := s.granules.report(r)
	synced, mode := s.granules.synced(), s.granules.syncing()
	s.mu.Lock()
	r.Durable = s.sess.base
	open, reason := s.sess.open, s.sess.reason
	s.mu.Unlock()

	m := s.status
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rateLocked(now)
	r.Sent, r.Read, r.Rate = m.sentBytes, m.readBytes, int64(m.rate)
	if left := need + pending; left > 0 && m.rate > 1 {
		r.Remaining = time.Duration(float64(left) / m.rate * float64(time.Second))
	}
	r.Points = slices.Clone(m.points)
	if now.Sub(m.unreadAt) > unreadKept {
		delete(m.problems, protocol.ProblemSourceRead)
	}
	r.Replication = m.stateLocked(now, synced, open, need+pending > 0, r.Lag)
	if r.Replication == protocol.ReplicationInitialSync && mode == syncCompare {
		r.Replication = protocol.ReplicationRescan
	}
	m.effort.turn(now)
	if need+pending > 0 && now.Sub(m.started) > slowPeriod {
		r.Slow = m.effort.slow(flow{open: open, reason: reason, silent: now.Sub(m.heard), workers: s.cfg.Workers, load: m.last.Load})
	}
	if !m.verify.Started.IsZero() {
		v := m.verify
		r.Verify = &v
	}
	r.Problems = append(r.Problems, m.problemsLocked(r, reason, now)...)
	if m.untested != "" {
		r.TierNotes = append(r.TierNotes, "its counters are compared, but no write of the agent's own tests it: "+m.untested)
	}
}

// untest remembers why the tracker cannot be tested by a write.
func (m *meter) untest(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.untested = reason
}

// stateLocked names the state of the replication as MGN does.
func (m *meter) stateLocked(now time.Time, synced, open, work bool, lag time.Duration) protocol.Replication {
	silent := now.Sub(m.heard) > silentAfter
	switch {
	case m.pausedBy:
		return protocol.ReplicationPaused
	case !m.everPaired && now.Sub(m.started) <= silentAfter:
		return protocol.ReplicationInitiating
	case silent, !open && len(m.problems) > 0, work && now.Sub(m.movedAt) > 2*silentAfter:
		return protocol.ReplicationStalled
	case !synced:
		return protocol.ReplicationInitialSync
	case lag > backlogLag:
		return protocol.ReplicationBacklog
	}
	return protocol.ReplicationContinuous
}

func (m *meter) problemsLocked(r *protocol.AgentReport, reason string, now time.Time) []protocol.Problem {
	var all []protocol.Problem
	for _, code := range slices.Sorted(maps.Keys(m.problems)) {
		all = append(all, m.problems[code])
	}
	if r.Replication == protocol.ReplicationStalled && len(all) == 0 {
		message := "the replication server says nothing"
		if reason != "" {
			message += "; the last session ended: " + reason
		}
		if r.Slow != nil {
			message = string(r.Slow.Part) + ": " + r.Slow.Evidence
		}
		all = append(all, protocol.Problem{Code: protocol.ProblemReplicaUnreachable, Message: message, Hint: "look at the replication server: rehost status", At: now})
	}
	return all
}

// rateLocked smooths the rate over some seconds.
func (m *meter) rateLocked(now time.Time) {
	seconds := now.Sub(m.rateAt).Seconds()
	if seconds < 0.2 {
		return
	}
	current := float64(m.durableBytes-m.rateBytes) / seconds
	weight := min(seconds/3, 1)
	m.rate += (current - m.rate) * weight
	m.rateAt, m.rateBytes = now, m.durableBytes
}

// report fills in the bytes of the disks, and returns the sums of what is needed and of what is in flight only.
func (g *granules) report(r *protocol.AgentReport) (need, pending int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r.Disks = nil
	for _, d := range g.disks {
		bytes := func(n int64) int64 { return min(n*d.GranuleBytes, d.SizeBytes) }
		all := int64(0) // needed or in flight
		for i := range d.need {
			all += onesCount(d.need[i] | d.flight[i])
		}
		report := protocol.DiskReport{
			Name: d.Name, SizeBytes: d.SizeBytes, GranuleBytes: d.GranuleBytes,
			Need: bytes(d.needN), Pending: bytes(all - d.needN), Replicated: d.SizeBytes - bytes(d.initialN),
			Rescanned: bytes(d.rescanned), Free: bytes(d.freeN),
		}
		need, pending = need+report.Need, pending+report.Pending
		r.Disks = append(r.Disks, report)
	}
	return need, pending
}

// problemOf turns an error into a problem.
func problemOf(code protocol.ProblemCode, err error) *protocol.Problem {
	return &protocol.Problem{Code: code, Message: err.Error(), Hint: hint.Of(err), At: time.Now()}
}
