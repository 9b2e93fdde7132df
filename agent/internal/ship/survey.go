package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

// Range is a run of bytes of a disk.
type Range struct{ Offset, Length int64 }

// errCompare is wrapped by the errors of a comparison, which is tried again.
var errCompare = errors.New("compare with the replica")

// compareRetry is the pause after a comparison that failed.
const compareRetry = time.Second

// surveyRetry is the pause after a survey that failed.
const surveyRetry = 2 * time.Second

// surveyLoop decides how a sync goes on, each time that one has begun: whether the replica is empty, so that everything
// is sent, or holds something, so that hashes are compared first; and what no filesystem uses.
func (s *Shipper) surveyLoop(ctx context.Context) error {
	for {
		err := s.waitFor(ctx, func() bool {
			return s.sess.open && s.granules.undecided() && s.sess.base.Session == s.sess.id
		})
		if err != nil {
			return nil //nolint:nilerr // the end of ctx is the regular end
		}
		mode := syncCompare
		if s.sess.fresh && s.sess.base.Seq == 1 {
			mode = syncSend
		}
		s.mu.Unlock()
		if !s.survey(ctx, mode) {
			select {
			case <-time.After(surveyRetry):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// survey begins the sync. Marks wait meanwhile in the kernel: what is written to a range after its filesystem was asked
// must not be taken for one of the granules that are needed anyway.
func (s *Shipper) survey(ctx context.Context, mode syncMode) bool {
	s.drainMu.Lock()
	defer s.drainMu.Unlock()
	var free [][]Range
	if s.deps.Free != nil {
		var err error
		if free, err = s.deps.Free(ctx); err != nil {
			if ctx.Err() != nil {
				return false
			}
			// What is not known to be free is read: slower, and nothing is lost.
			s.log.Warn("free space is not known, everything is read", "error", err, "hint", hint.Of(err))
			free = nil
		}
	}
	s.scanner.forget() // what the replica held during an earlier sync
	bytes := s.granules.begin(mode, free)
	s.log.Info("sync begins", "compare", mode == syncCompare, "free_bytes", bytes, "need_bytes", s.granules.needBytes())
	s.mu.Lock()
	s.notifyLocked()
	s.mu.Unlock()
	return true
}

// undecided says that a sync has begun, and that it is not known how.
func (g *granules) undecided() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.file.synced && g.file.mode == syncUndecided
}

// begin starts a sync. Granules that lie in free ranges as a whole are left out until somebody writes to them; it
// returns their bytes. Nothing may have been drained since the ranges were free.
func (g *granules) begin(mode syncMode, free [][]Range) (bytes int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, d := range g.disks {
		if i < len(free) {
			for _, r := range free[i] {
				g.leaveOut(i, d, r)
			}
		}
		d.recount()
		bytes += d.freeN * d.GranuleBytes
	}
	g.file.mode = mode
	g.file.save()
	g.syncedLocked()
	return bytes
}

func (g *granules) leaveOut(disk int, d *diskGranules, r Range) {
	first := (r.Offset + d.GranuleBytes - 1) / d.GranuleBytes
	last := min((r.Offset+r.Length)/d.GranuleBytes, d.n) // not included
	for i := first; i < last; i++ {
		word, bit := int(i/64), uint64(1)<<(i%64)
		if d.flight[word]&bit != 0 || d.initial[word]&bit == 0 || g.file.free[disk][word]&bit != 0 {
			continue
		}
		d.need[word] &^= bit
		d.initial[word] &^= bit
		g.file.free[disk][word] |= bit
		d.freeN++
		g.file.andNot(disk, word, bit)
	}
}

// syncedLocked notes the end of a sync.
func (g *granules) syncedLocked() {
	if g.file.synced || g.file.mode == syncUndecided {
		return
	}
	for _, d := range g.disks {
		if d.initialN > 0 {
			return
		}
	}
	g.file.synced = true
	g.file.save()
}

// syncing says what a sync that is not complete does.
func (g *granules) syncing() syncMode {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file.mode
}

// rescan compares everything with the replica and sends what differs. No point is taken until that is done.
func (s *Shipper) rescan(why string) {
	s.log.Info("rescan begins", "reason", why)
	s.granules.needAll()
	s.mu.Lock()
	s.notifyLocked()
	s.mu.Unlock()
}

// compare drops from a job what the replica holds already. The job keeps the others, whose bytes stand
// one after another in rest.
func (s *Shipper) compare(ctx context.Context, j *job, raw []byte) (rest []byte, err error) {
	kept := 0
	var differ []span
	for _, sp := range j.spans {
		d := s.cfg.Disks[sp.disk]
		hashes, err := s.scanner.hashes(ctx, j.session, sp)
		if err != nil {
			j.equal = nil
			select {
			case <-time.After(compareRetry):
			case <-ctx.Done():
			}
			return nil, fmt.Errorf("%w: disk %s: %w", errCompare, d.Name, err)
		}
		for i := range sp.count {
			g := sp.first + i
			n := min(d.GranuleBytes, d.SizeBytes-g*d.GranuleBytes)
			if hashOf(raw[:n]) == hashes[i] {
				j.equal = extend(j.equal, sp.disk, g)
			} else {
				kept += copy(j.buf[kept:protocol.MaxRaw], raw[:n])
				differ = extend(differ, sp.disk, g)
			}
			raw = raw[n:]
		}
	}
	j.spans = differ
	return j.buf[:kept], nil
}

// compared settles what a comparison has found: equal spans are clean, unless they were written to meanwhile. The others
// are still in flight.
func (g *granules) compared(equal, differ []span) {
	g.mu.Lock()
	for _, all := range [][]span{equal, differ} {
		for _, sp := range all {
			g.disks[sp.disk].rescanned += sp.count
		}
	}
	g.mu.Unlock()
	g.settle(equal, true)
}
