package ship

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/time/rate"

	"rehost/internal/blockdev"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Defaults and limits of a verify.
const (
	DefaultVerifyEvery     = 24 * time.Hour
	DefaultVerifyBandwidth = 32 << 20 // bytes of disk per second, in the background
	verifyBytes            = 1 << 20  // compared at once
	// verifyTries is how often a difference must be seen. A write that has reached the disk and whose completion the
	// tracker has yet to see looks like one, for a moment.
	verifyTries = 3
	verifyPause = 300 * time.Millisecond
	verifyRetry = 5 * time.Second
	// snapshotPatience is for the controller, which reads a snapshot block by block.
	snapshotPatience = 30 * time.Second
)

// Verify says how the replica is compared with the source in the background.
type Verify struct {
	Every     time.Duration // from the end of a pass to the next one; 0: DefaultVerifyEvery; negative: only on request
	Bandwidth int64         // bytes of disk read per second; 0: DefaultVerifyBandwidth. A pass on request is not bounded
}

// watch notes which granules of a range may not be judged: they were needed, in flight or written to at some time since
// it began. The nil watch notes nothing.
type watch struct {
	disk    int
	first   int64 // granule; a multiple of 64
	touched []uint64
}

func (w *watch) touch(disk, word int, bits uint64) {
	if w == nil || disk != w.disk {
		return
	}
	if i := int64(word) - w.first/64; i >= 0 && i < int64(len(w.touched)) {
		w.touched[i] |= bits
	}
}

// watchRange begins to watch the words of a span.
func (g *granules) watchRange(sp span) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.disks[sp.disk]
	w := &watch{disk: sp.disk, first: sp.first &^ 63}
	for i := sp.first / 64; i <= (sp.first+sp.count-1)/64; i++ {
		w.touched = append(w.touched, d.need[i]|d.flight[i]|g.file.free[sp.disk][i])
	}
	g.watch = w
}

// touched says whether a granule of the watched range may not be judged.
func (g *granules) touched(granule int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := granule - g.watch.first
	return g.watch.touched[i/64]>>(i%64)&1 != 0
}

func (g *granules) unwatch() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watch = nil
}

// Verify asks for a pass over all disks now; the same id again changes nothing.
func (s *Shipper) Verify(o protocol.VerifyOrder) {
	s.status.mu.Lock()
	fresh := s.status.verifyWanted.ID != o.ID && s.status.verify.ID != o.ID
	if fresh {
		s.status.verifyWanted = o
	}
	s.status.mu.Unlock()
	if !fresh {
		return
	}
	select {
	case s.verifyKick <- struct{}{}:
	default:
	}
}

// verifyLoop makes passes when they are asked for, and in the background.
func (s *Shipper) verifyLoop(ctx context.Context) error {
	runtime.LockOSThread() // the I/O priority is the thread's; it ends with the goroutine
	blockdev.Background(true)
	buffer, err := blockdev.AlignedBuffer(verifyBytes)
	if err != nil {
		return err
	}
	defer blockdev.FreeBuffer(buffer) //nolint:errcheck // it is ours and whole
	for {
		order, due := s.verifyDue(time.Now())
		if !due {
			select {
			case <-s.verifyKick:
			case <-time.After(verifyRetry):
			case <-ctx.Done():
				return nil
			}
			continue
		}
		s.pass(ctx, order, buffer)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// verifyDue says whether a pass should begin, and by which order; one without an id: in the background.
func (s *Shipper) verifyDue(now time.Time) (order protocol.VerifyOrder, due bool) {
	if !s.granules.synced() {
		return order, false
	}
	s.status.mu.Lock()
	defer s.status.mu.Unlock()
	if s.status.verifyWanted.ID != "" {
		return s.status.verifyWanted, true
	}
	every := s.cfg.Verify.Every
	if every == 0 {
		every = DefaultVerifyEvery
	}
	since := s.status.verify.Ended
	if since.IsZero() {
		since = s.status.started
	}
	return order, every > 0 && now.Sub(since) >= every
}

// pass compares everything once.
func (s *Shipper) pass(ctx context.Context, order protocol.VerifyOrder, buffer []byte) {
	bandwidth := rate.Inf
	if order.ID == "" {
		bandwidth = DefaultVerifyBandwidth
		if s.cfg.Verify.Bandwidth > 0 {
			bandwidth = rate.Limit(s.cfg.Verify.Bandwidth)
		}
	}
	pace := rate.NewLimiter(bandwidth, verifyBytes)
	report := protocol.VerifyReport{ID: order.ID, Point: order.Point, Started: time.Now()}
	for _, d := range s.cfg.Disks {
		report.Total += d.SizeBytes
	}
	if order.Point != "" {
		if !s.granules.beginComparison(order.Point) {
			report.Problem, report.Ended = problemOf(protocol.ProblemPoint, errSince(order.Point)), time.Now()
			s.status.verifying(report)
			return
		}
		defer s.granules.endComparison()
	}
	s.status.verifying(report)
	s.log.Info("verify begins", "id", order.ID, "point", order.Point, "bytes", report.Total)
	for disk := range s.cfg.Disks {
		per := verifyBytes / s.cfg.Disks[disk].GranuleBytes
		n := granuleCount(s.cfg.Disks[disk])
		for first := int64(0); first < n; first += per {
			sp := span{disk, first, min(per, n-first)}
			if pace.WaitN(ctx, int(sp.count*s.cfg.Disks[disk].GranuleBytes)) != nil {
				return
			}
			if !s.verifyRange(ctx, sp, buffer, &report) {
				return
			}
			s.status.verifying(report)
		}
	}
	report.Ended = time.Now()
	if report.Differences == 0 && order.Point == "" {
		report.Last = report.Ended
		s.status.clear(protocol.ProblemIntegrity)
	}
	s.status.verifying(report)
	s.log.Info("verify ended", "id", order.ID, "differences", report.Differences, "skipped_bytes", report.Skipped, "took", report.Ended.Sub(report.Started).Round(time.Millisecond).String())
}

// verifyRange compares one range, again as long as the replica is not there to compare with, and notes the outcome.
func (s *Shipper) verifyRange(ctx context.Context, sp span, buffer []byte, report *protocol.VerifyReport) bool {
	size := s.cfg.Disks[sp.disk].GranuleBytes
	for {
		skipped, bad, err := s.verifySpan(ctx, sp, report.Point, buffer)
		if err == nil {
			report.Problem = nil
			report.Done += int64(s.extents([]span{sp})[0].Length)
			report.Skipped += skipped * size
			report.Differences += int64(len(bad))
			if report.Point == "" {
				s.heal(sp.disk, bad)
			} else {
				s.denounce(sp.disk, bad, report.Point)
			}
			return true
		}
		var ok bool
		if report.Problem, ok = errors.AsType[*protocol.Problem](err); !ok {
			report.Problem = problemOf(protocol.ProblemReplicaUnreachable, err)
		}
		if report.Problem.Code == protocol.ProblemUnknown { // the snapshot is gone, and comes not back
			report.Ended = time.Now()
		}
		s.status.verifying(*report)
		if !report.Ended.IsZero() {
			return false
		}
		select {
		case <-time.After(verifyRetry):
		case <-ctx.Done():
			return false
		}
		if !s.granules.synced() { // a rescan compares everything anyway
			report.Problem.Message, report.Ended = "given up: "+report.Problem.Message, time.Now()
			s.status.verifying(*report)
			return false
		}
	}
}

// verifySpan returns how many granules could not be judged, and those that differ though they were clean all the time.
func (s *Shipper) verifySpan(ctx context.Context, sp span, point string, buffer []byte) (skipped int64, bad []int64, err error) {
	s.drain()
	defer s.granules.unwatch()
	for try := range verifyTries {
		if try > 0 { // whatever was on its way at the first look has arrived by now
			select {
			case <-time.After(verifyPause):
			case <-ctx.Done():
				return 0, nil, ctx.Err()
			}
			s.drain()
		}
		s.granules.watchRange(sp)
		differ, err := s.differing(ctx, sp, point, buffer)
		if err != nil {
			return 0, nil, err
		}
		s.drain()
		skipped, bad = 0, nil
		for i := sp.first; i < sp.first+sp.count; i++ {
			if s.granules.touched(i) || s.granules.writtenSince(sp.disk, i) {
				skipped++
			} else if differ[i-sp.first] {
				bad = append(bad, i)
			}
		}
		if bad == nil {
			break
		}
	}
	return skipped, bad, nil
}

var errNoSession = errors.New("no session with the replica")

// differing asks for the hashes of the replica, or of a point's snapshot, then reads the disk.
func (s *Shipper) differing(ctx context.Context, sp span, point string, buffer []byte) ([]bool, error) {
	hashes, err := s.otherSide(ctx, sp, point)
	if err != nil {
		return nil, err
	}
	e := s.extents([]span{sp})[0]
	b := buffer[:e.Length]
	if err := s.read(ctx, e, b, readTries); err != nil {
		return nil, problemOf(protocol.ProblemSourceRead, err)
	}
	size := s.cfg.Disks[sp.disk].GranuleBytes
	differ := make([]bool, sp.count)
	for i := range differ {
		n := min(size, int64(len(b)))
		differ[i] = hashOf(b[:n]) != hash(hashes[16*i:])
		b = b[n:]
	}
	return differ, nil
}

// otherSide returns the hashes of what the replica holds, or a point's snapshot.
func (s *Shipper) otherSide(ctx context.Context, sp span, point string) ([]byte, error) {
	if point != "" {
		return s.snapshotHashes(ctx, sp, point)
	}
	s.mu.Lock()
	session, open := s.sess.id, s.sess.open && s.sess.base.Session == s.sess.id
	s.mu.Unlock()
	if !open {
		return nil, errNoSession
	}
	return s.scanner.ask(ctx, session, sp)
}

// snapshotHashes asks the controller, who reads the snapshot in the cloud.
func (s *Shipper) snapshotHashes(ctx context.Context, sp span, point string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotPatience)
	defer cancel()
	d, e := s.cfg.Disks[sp.disk], s.extents([]span{sp})[0]
	r := protocol.SnapshotRequest{Point: point, Disk: d.Name, Offset: e.Offset, Length: int64(e.Length), GranuleBytes: d.GranuleBytes}
	reply, err := bus.Request[protocol.SnapshotRequest, protocol.SnapshotReply](ctx, s.deps.Conn, protocol.SnapshotSubject(s.cfg.Server), r)
	if err != nil {
		return nil, fmt.Errorf("ask what the snapshot of %s holds: %w", d.Name, err)
	}
	if int64(len(reply.Hashes)) != 16*sp.count {
		return nil, errShort
	}
	return reply.Hashes, nil
}

func errSince(point string) error {
	return hint.New("it is not known here what was written since point "+point, "compare the newest point that was taken since the agent's start; take one: rehost point take")
}

// denounce says that a point's snapshot is not what the disk was. Nothing can heal it.
func (s *Shipper) denounce(disk int, bad []int64, point string) {
	if len(bad) == 0 {
		return
	}
	d := s.cfg.Disks[disk]
	message := fmt.Sprintf("%d granules of %s differ from the snapshot of point %s although nobody has written there since, the first at %d", len(bad), d.Name, point, bad[0]*d.GranuleBytes)
	s.log.Error("a snapshot is not what the disk was", "disk", d.Name, "point", point, "granules", len(bad), "first_offset", bad[0]*d.GranuleBytes)
	s.status.problem(protocol.ProblemIntegrity, message, "do not launch from that point; compare the replica: rehost verify "+s.cfg.Server+" --wait, and take another point")
}

// heal makes granules needed that differ, and says so: the tracker missed a write, or something changed on the way.
func (s *Shipper) heal(disk int, bad []int64) {
	if len(bad) == 0 {
		return
	}
	d := s.cfg.Disks[disk]
	message := fmt.Sprintf("%d granules of %s differ from the replica although nobody wrote there, the first at %d; they are sent again", len(bad), d.Name, bad[0]*d.GranuleBytes)
	s.log.Error("verify found a difference", "disk", d.Name, "granules", len(bad), "first_offset", bad[0]*d.GranuleBytes)
	s.status.problem(protocol.ProblemIntegrity, message, "take a new point, and do not launch from older ones; then verify once more: rehost verify "+s.cfg.Server)
	for _, g := range bad {
		s.granules.mark(disk, int(g/64), 1<<(g%64))
	}
	s.mu.Lock()
	s.notifyLocked()
	s.mu.Unlock()
}
