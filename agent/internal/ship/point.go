package ship

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sync/errgroup"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// defaultBudget is how long writers may stand still when the order does not say.
	defaultBudget = 250 * time.Millisecond
	// freezeCap is after which time the freezer lets the writers go, whatever happens.
	freezeCap = 2 * time.Second
	// convergeRound is how short a round of sync, drain and ship must be before it is worth to freeze.
	convergeRound = 60 * time.Millisecond
	convergeFor   = 10 * time.Second
	// quietRounds is how often the tracker may have new marks while the writers stand still.
	quietRounds = 4
	frozenReads = 32
	hookLimit   = time.Second
	// sendFor bounds the way of a point from memory to the broker.
	sendFor = 2 * time.Minute
)

// frozen is what was read while the writers stood still. Nobody can read it again: the disks move on.
type frozen struct {
	term  uint64
	parts []part
	bytes int64
	mark  protocol.PointMark
	// begun says that some of it is on its way to the broker already.
	begun bool
}

// part is a run of granules, at most a quarter of a frame, and its bytes.
type part struct {
	span  span
	bytes []byte
}

// Announce notes that a point will be taken, and says whether it is new: false means that it was begun before.
func (s *Shipper) Announce(id string) bool {
	if s.status.knownPoint(id) {
		return false
	}
	s.status.point(protocol.PointReport{ID: id, State: protocol.PointTaking})
	return true
}

// Point takes a point that was announced, and reports its outcome in [Shipper.Report]. It blocks until the point's
// frame is with the broker or the point has failed.
func (s *Shipper) Point(ctx context.Context, order protocol.PointOrder) {
	s.pointMu.Lock()
	defer s.pointMu.Unlock()
	if s.stopped {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with this call
		select {
		case <-s.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	mark, err := s.takePoint(ctx, order)
	s.granules.endSince(err == nil)
	report := protocol.PointReport{ID: order.ID, State: protocol.PointSent, Grade: mark.Grade, Frozen: mark.Frozen, Taken: mark.Taken}
	if err != nil {
		s.log.Warn("point failed", "point", order.ID, "error", err)
		p, ok := errors.AsType[*protocol.Problem](err)
		if !ok {
			p = problemOf(protocol.ProblemPoint, err)
		}
		report.State, report.Problem = protocol.PointFailed, p
	} else {
		s.log.Info("point sent", "point", order.ID, "grade", string(mark.Grade), "frozen_ms", mark.Frozen.Milliseconds())
	}
	s.status.point(report)
}

func (s *Shipper) takePoint(ctx context.Context, order protocol.PointOrder) (mark protocol.PointMark, err error) {
	limit := sendFor
	if s.cfg.Periodic {
		limit = periodicFor
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	g := group{nc: s.deps.Conn, server: s.cfg.Server, order: order}
	defer func() {
		if err == nil {
			return
		}
		if errTell := g.giveUp(ctx, err); errTell != nil {
			s.log.Debug("tell the others that the point failed", "point", order.ID, "error", errTell)
		}
	}()
	if err := s.checkDisks(); err != nil {
		return mark, err
	}
	if err := s.prove(ctx); err != nil {
		return mark, err
	}
	s.drain()
	if err := s.unsynced(); err != nil {
		return mark, err
	}
	defer s.hold(false)
	f, err := s.still(ctx, g)
	if err == nil {
		err = s.checkDisks() // once more: it may have changed meanwhile
	}
	if err == nil {
		err = s.sendPoint(ctx, f)
	}
	if err != nil {
		s.giveBack(f)
	}
	return f.mark, err
}

// still brings the source to a moment that is a point, and reads what the replica lacks of it.
func (s *Shipper) still(ctx context.Context, g group) (*frozen, error) {
	if s.cfg.Periodic {
		return s.quiet(ctx, g)
	}
	if err := s.gather(ctx, g); err != nil {
		return &frozen{}, err
	}
	// The replica may have asked for everything meanwhile, as after the loss of its checkpoint.
	if err := errors.Join(s.unsynced(), s.status.unread()); err != nil {
		return &frozen{}, err
	}
	return s.hooked(ctx, g)
}

// unsynced is an error while a sync is not complete.
func (s *Shipper) unsynced() error {
	if s.granules.synced() {
		return nil
	}
	return hint.New("a sync with the replica is not complete", "wait until the server is CONTINUOUS")
}

// checkDisks returns a problem when a disk is not what it was.
func (s *Shipper) checkDisks() error {
	if s.deps.Check == nil {
		return nil
	}
	if err := s.deps.Check(); err != nil {
		return problemOf(protocol.ProblemAgentDisk, err)
	}
	return nil
}

// hooked freezes between the owner's hooks. The second one runs before the point is sent: what it lets go must not wait
// for the link.
func (s *Shipper) hooked(ctx context.Context, g group) (*frozen, error) {
	none := &frozen{}
	if s.deps.PreFreeze != nil {
		if s.deps.PostThaw != nil {
			defer s.deps.PostThaw(context.WithoutCancel(ctx)) // it has a limit of its own
		}
		if err := s.deps.PreFreeze(ctx); err != nil {
			return none, fmt.Errorf("hook before the freeze: %w", err)
		}
	}
	s.hold(true)
	if err := s.idle(ctx); err != nil {
		return none, fmt.Errorf("wait for frames under way: %w", err)
	}
	quiet, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	if err := g.arrive(quiet, protocol.BarrierQuiet); err != nil {
		return none, err
	}
	budget := g.order.Budget
	if budget <= 0 {
		budget = s.cfg.Budget
	}
	return s.freeze(ctx, g, budget)
}

// converge ships until almost nothing is left, since what is left is read while the writers stand still.
func (s *Shipper) converge(ctx context.Context) error {
	deadline := time.Now().Add(convergeFor)
	for {
		start := time.Now()
		if err := s.deps.Freezer.Sync(ctx); err != nil {
			return fmt.Errorf("write out the filesystems: %w", err)
		}
		s.drain()
		round, cancel := context.WithDeadline(ctx, deadline)
		err := s.waitFor(round, func() bool { return s.busy == 0 && s.granules.needBytes() == 0 || s.status.unread() != nil })
		cancel()
		if err == nil {
			s.mu.Unlock()
			if err := s.status.unread(); err != nil {
				return err
			}
		}
		took := time.Since(start)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && took < convergeRound:
			return nil
		case time.Now().After(deadline):
			// It does not get smaller than this. The memory cap decides whether it is small enough.
			s.log.Info("source does not calm down", "round_ms", took.Milliseconds(), "need_bytes", s.granules.needBytes())
			return nil
		}
	}
}

// hold stops and restarts the picking.
func (s *Shipper) hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = on
	s.notifyLocked()
}

// idle waits until nothing is being read or waits to be published: what the readers would still read after the thaw
// would be newer than the point.
func (s *Shipper) idle(ctx context.Context) error {
	if err := s.waitFor(ctx, func() bool { return s.busy == 0 && s.sess.open }); err != nil {
		return err
	}
	s.mu.Unlock()
	return nil
}

// freeze stops the writers, reads into memory all that the replica was not sent, and lets the writers go. Between
// freeze and thaw it touches neither the bus nor the log.
func (s *Shipper) freeze(ctx context.Context, g group, budget time.Duration) (*frozen, error) {
	s.drainMu.Lock()
	defer s.drainMu.Unlock()
	f := &frozen{mark: protocol.PointMark{ID: g.order.ID}}
	s.mu.Lock()
	f.term = s.sess.term
	open := s.sess.open
	s.mu.Unlock()
	if !open {
		return f, errEnded
	}
	if s.deps.Fenced != nil {
		f.mark.Fenced = s.deps.Fenced()
	}
	taint := s.granules.taint()
	written := newSince(g.order.ID, s.granules.disks)
	start := time.Now()
	still, err := s.deps.Freezer.Freeze(ctx, s.cfg.Cap)
	if err == nil {
		if !still.Since.IsZero() {
			start = still.Since
		}
		f.mark.Grade, f.mark.Excluded, f.mark.Taken = still.Grade, still.Excluded, time.Now()
		err = s.readTogether(ctx, g, f, start.Add(min(budget, s.cfg.Cap)))
	}
	if !s.cfg.Periodic { // without a tracker nobody knows what is written
		s.granules.beginSince(written)
	}
	held, errThaw := s.deps.Freezer.Thaw()
	if err = errors.Join(err, errThaw); held == 0 {
		held = time.Since(start)
	}
	f.mark.Frozen = held
	if count, why := s.deps.Tracker.Taint(); count > taint {
		return f, &protocol.Problem{Code: protocol.ProblemTracker, Message: "not every write was tracked: " + why, Hint: "everything is compared with the replica; take the point when that is done", At: time.Now()}
	}
	if err != nil {
		return f, &protocol.Problem{Code: protocol.ProblemFreeze, Message: err.Error(), Hint: hint.Of(err), At: time.Now()}
	}
	if f.mark.Frozen > s.cfg.Cap {
		return f, fmt.Errorf("the writers stood still for %s, and may have been let go before all was read", f.mark.Frozen)
	}
	return f, nil
}

// readTogether reads while it waits for the word that all servers of the group are frozen. Whoever thaws after it has
// thawed after every freeze, so what all of them read was there at one moment.
func (s *Shipper) readTogether(ctx context.Context, g group, f *frozen, deadline time.Time) error {
	limited, cancel := context.WithDeadline(ctx, deadline)
	defer cancel() // the writers do not wait for a word that does not matter any more
	word := g.arriving(limited, protocol.BarrierFrozen)
	if err := s.readFrozen(ctx, f, deadline); err != nil {
		return err
	}
	if !g.alone() {
		if err := <-word; err != nil {
			return err
		}
		// Of filesystems that cannot freeze the state before the word is not good enough.
		if err := s.readFrozen(ctx, f, deadline); err != nil {
			return err
		}
	}
	return s.frozenHook(ctx, f.mark.ID)
}

// readFrozen reads what is needed, until the tracker has no new mark.
func (s *Shipper) readFrozen(ctx context.Context, f *frozen, deadline time.Time) error {
	for range quietRounds {
		if s.drainLocked() == 0 && s.granules.needBytes() == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return hint.New("reading while frozen took longer than the budget", "raise the point's budget, or take it when the source writes less")
		}
		need := s.granules.needBytes()
		if f.bytes+need > s.cfg.Memory {
			return hint.New(fmt.Sprintf("%d MiB changed while the point was being taken", need>>20), "take the point when the source writes less, or raise the agent's point memory")
		}
		if err := s.readNeed(ctx, f); err != nil {
			return err
		}
	}
	return hint.New("the disks were written to while their filesystems stood still", "look for a program that writes to the raw disk, or for a filesystem that cannot freeze")
}

// readNeed moves everything needed to memory. A granule that comes twice is in memory twice, and the later one wins
// on the replica too.
func (s *Shipper) readNeed(ctx context.Context, f *frozen) error {
	s.mu.Lock()
	if s.sess.term != f.term {
		s.mu.Unlock()
		return errEnded
	}
	spans := s.pickAllLocked()
	s.mu.Unlock()
	size := s.spanBytes(spans)
	memory := aligned(size)
	f.bytes += size
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(frozenReads)
	for i, e := range s.extents(spans) {
		b := memory[:e.Length]
		memory = memory[e.Length:]
		f.parts = append(f.parts, part{span: spans[i], bytes: b})
		g.Go(func() error { return s.read(ctx, e, b, 1) })
	}
	return g.Wait()
}

// aligned returns memory fit for direct I/O. It is of the heap, since a point that is given up leaves readers behind
// that still look at it.
func aligned(size int64) []byte {
	const page = 4096
	b := make([]byte, size+page)
	skip := page - int(uintptr(unsafe.Pointer(&b[0]))%page)
	return b[skip : int64(skip)+size]
}

// pickAllLocked takes everything needed, in runs that a reader takes at once.
func (s *Shipper) pickAllLocked() []span {
	const atOnce = 256 << 10
	var spans []span
	for {
		more, _ := s.granules.pick(noJob, protocol.MaxRaw)
		if more == nil {
			return spans
		}
		for _, sp := range more {
			step := max(atOnce/s.cfg.Disks[sp.disk].GranuleBytes, 1)
			for ; sp.count > step; sp.count -= step {
				spans = append(spans, span{disk: sp.disk, first: sp.first, count: step})
				sp.first += step
			}
			spans = append(spans, sp)
		}
	}
}

// frozenHook runs the tests' program with the point's id as its last argument.
func (s *Shipper) frozenHook(ctx context.Context, id string) error {
	if len(s.cfg.FrozenHook) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, hookLimit)
	defer cancel()
	_, err := command.Run(ctx, s.cfg.FrozenHook[0], append(slices.Clone(s.cfg.FrozenHook[1:]), id)...)
	return err
}

// sendPoint publishes what was read while frozen, then the point's frame. Nothing is picked meanwhile, so nothing newer
// can come before it; what is picked after the last enqueue comes behind it.
func (s *Shipper) sendPoint(ctx context.Context, f *frozen) error {
	f.begun = true
	for parts := f.parts; len(parts) > 0; {
		n := batch(parts)
		j, err := s.frozenJob(ctx, f.term)
		if err != nil {
			return err
		}
		for _, p := range parts[:n] {
			j.spans, j.memory = append(j.spans, p.span), append(j.memory, p.bytes)
		}
		if !s.enqueue(ctx, j) {
			return ctx.Err()
		}
		parts = parts[n:]
	}
	done := make(chan error, 1)
	j, err := s.frozenJob(ctx, f.term)
	if err != nil {
		return err
	}
	j.point, j.done = &f.mark, done
	if !s.enqueue(ctx, j) {
		return ctx.Err()
	}
	s.hold(false)
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.waitAck(ctx, f)
}

// batch returns how many parts fit into one frame.
func batch(parts []part) (n int) {
	size := 0
	for n < len(parts) && size+len(parts[n].bytes) <= protocol.MaxRaw && n < protocol.MaxExtents/64 {
		size += len(parts[n].bytes)
		n++
	}
	return n
}

func (s *Shipper) frozenJob(ctx context.Context, term uint64) (*job, error) {
	buf, err := s.pool.Get(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.newJobLocked(nil)
	j.term, j.buf = term, buf
	return j, nil
}

// waitAck waits until the broker has the point's frame or the session has ended.
func (s *Shipper) waitAck(ctx context.Context, f *frozen) error {
	acked := false
	err := s.waitFor(ctx, func() bool {
		acked = s.status.takeAck(f.mark.ID)
		return acked || s.sess.term != f.term
	})
	if err != nil {
		return err
	}
	s.mu.Unlock()
	if !acked {
		return errEnded
	}
	return nil
}

// giveBack makes what was read for a point that failed needed again; the data is still just changes. When the session
// has ended that has happened already.
func (s *Shipper) giveBack(f *frozen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sess.term != f.term {
		return
	}
	if f.begun {
		s.sess.reason = "a point was given up half way"
		s.endLocked()
		return
	}
	var spans []span
	for _, p := range f.parts {
		spans = append(spans, p.span)
	}
	s.granules.settle(spans, false)
	s.notifyLocked()
}
