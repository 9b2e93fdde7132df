package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

// DefaultRescanEvery is the pause between comparisons where no tracker tells what was written.
const DefaultRescanEvery = 15 * time.Minute

// periodicFor bounds a point where there is no tracker: it takes a comparison of everything.
const periodicFor = 12 * time.Hour

// periodicLoop compares everything again and again where no tracker tells what was written.
func (s *Shipper) periodicLoop(ctx context.Context) error {
	if !s.cfg.Periodic {
		return nil
	}
	for {
		select {
		case <-time.After(s.cfg.RescanEvery):
		case <-ctx.Done():
			return nil
		}
		if s.granules.synced() {
			s.rescan("there is no tracker, and the last comparison is " + s.cfg.RescanEvery.String() + " ago")
		}
	}
}

// quiet takes a point where there is no tracker: everything is compared, and nothing may have been written since before
// that. It needs no freeze, which would itself write.
func (s *Shipper) quiet(ctx context.Context, g group) (*frozen, error) {
	f := &frozen{mark: protocol.PointMark{ID: g.order.ID, Grade: protocol.GradeCrash}}
	if !g.alone() {
		return f, hint.New("this server is compared periodically, and cannot take a point together with others", "run a kernel with BPF on it, or take its points alone")
	}
	if err := s.deps.Freezer.Sync(ctx); err != nil {
		return f, fmt.Errorf("write out the filesystems: %w", err)
	}
	before, err := s.deps.Writes()
	if err != nil {
		return f, fmt.Errorf("ask the kernel what was written: %w", err)
	}
	s.rescan("a point is taken without a tracker")
	err = s.waitFor(ctx, func() bool {
		return s.granules.synced() && s.granules.needBytes() == 0 && s.busy == 0 && len(s.sess.frames) == 0
	})
	if err != nil {
		return f, err
	}
	s.held = true
	f.term = s.sess.term
	open := s.sess.open
	s.mu.Unlock()
	if !open {
		return f, errEnded
	}
	if s.deps.Fenced != nil {
		f.mark.Fenced = s.deps.Fenced()
	}
	f.mark.Taken = time.Now()
	after, err := s.deps.Writes()
	if err != nil {
		return f, fmt.Errorf("ask the kernel what was written: %w", err)
	}
	if after != before {
		return f, hint.New(fmt.Sprintf("%d sectors were written while the disks were compared, and no tracker tells which", after-before),
			"stop the writers first (a fence does), or run a kernel with BPF: see rehost-agent check")
	}
	return f, nil
}

var errNoWrites = errors.New("there is neither a tracker nor a count of writes")
