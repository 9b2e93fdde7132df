// Package lease sees to it that of several controllers one leads: by a record that its holder renews, and that another one takes when it was not renewed for
// long enough. No clock of one machine is compared with that of another. What the leader does in its term is others' business.
package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/await"
	"rehost/internal/hint"
	"rehost/internal/uptime"
	"rehost/protocol"
)

// ErrOver says that the term is over: another controller may lead.
var ErrOver = errors.New("this controller leads no more")

// DefaultLasts is how long a lease lasts that nobody renews. With the look at it and the start of the term, another controller leads within 10 s.
const DefaultLasts = 6 * time.Second

// ending is how long the work of a term may take to end. Longer is an error: two terms must not run side by side in a process.
const ending = 20 * time.Second

// Config says who wants to lead.
type Config struct {
	Self   protocol.Lease // Holder, Host, Process and Fleet
	Lasts  time.Duration  // 0: [DefaultLasts]; the same for all controllers of a fleet
	Logger hclog.Logger
	Waits  func(leader protocol.Lease) // told when another one leads; nil: nobody asks
}

// Candidate is a controller that leads, or waits until it may.
type Candidate struct {
	cfg Config
	kv  jetstream.KeyValue
	now func() time.Duration // of a clock that goes on while the machine is suspended
}

// New makes a candidate for a bucket's lease.
func New(kv jetstream.KeyValue, cfg Config) *Candidate {
	if cfg.Lasts == 0 {
		cfg.Lasts = DefaultLasts
	}
	return &Candidate{cfg: cfg, kv: kv, now: uptime.Now}
}

// The holder leads for two thirds of the time after which another one may: the third between them is for clocks that go at another pace, and for what was on
// its way.
func (c *Candidate) holds() time.Duration { return c.cfg.Lasts * 2 / 3 }
func (c *Candidate) every() time.Duration { return c.cfg.Lasts / 3 }
func (c *Candidate) poll() time.Duration  { return c.cfg.Lasts / 12 }

// Run leads whenever it may, until ctx ends or the work of a term fails. The ctx of the work ends with the term, and the next term begins after it has returned.
func (c *Candidate) Run(ctx context.Context, work func(ctx context.Context, t *Term) error) error {
	for {
		t, err := c.take(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ctx ended
		}
		if err != nil {
			return err
		}
		c.cfg.Logger.Info("this controller leads", "term", t.lease.Term)
		err = c.lead(ctx, t, work)
		if !errors.Is(err, ErrOver) {
			return err
		}
		c.cfg.Logger.Warn("this controller leads no more: its lease could not be renewed", "term", t.lease.Term)
	}
}

// Term is the time for which a controller leads.
type Term struct {
	lease    protocol.Lease
	revision uint64
	now      func() time.Duration

	mu    sync.Mutex
	until time.Duration
}

// Check says [ErrOver] when another controller may lead. Ask it just before anything is done that others see. The nil Term is that of a controller beside which
// there can be no other.
func (t *Term) Check() error {
	if t == nil || t.left() > 0 {
		return nil
	}
	return fmt.Errorf("term %d: %w", t.lease.Term, ErrOver)
}

// Lease is the record of the term; nil of the nil Term.
func (t *Term) Lease() *protocol.Lease {
	if t == nil {
		return nil
	}
	l := t.lease
	return &l
}

// left is how much of the term is left.
func (t *Term) left() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.until - t.now()
}

func (t *Term) lasts(until time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = until
}

// lead works until ctx, the work or the term ends.
func (c *Candidate) lead(ctx context.Context, t *Term, work func(ctx context.Context, t *Term) error) error {
	working, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan error, 1)
	go func() { done <- work(working, t) }() // ends with working; else this process ends
	kept := make(chan error, 1)
	go func() { kept <- c.keep(working, t) }() // ends with working
	var lost error
	select {
	case err := <-done:
		cancel(nil)
		<-kept //nolint:errcheck // it was told to end
		c.free(ctx, t)
		return err
	case lost = <-kept:
		cancel(lost)
	}
	select {
	case err := <-done:
		if lost == nil { // ctx ended
			c.free(ctx, t)
			return err
		}
		return errors.Join(lost, err)
	case <-time.After(ending):
		return fmt.Errorf("the work of term %d has not ended within %s", t.lease.Term, ending)
	}
}

// keep renews the lease until ctx ends; then it returns nil, or [ErrOver] when the term does.
func (c *Candidate) keep(ctx context.Context, t *Term) error {
	pause := c.every()
	for {
		limited, cancel := context.WithTimeout(ctx, min(pause, t.left()))
		<-limited.Done()
		cancel()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ctx ended
		}
		if err := t.Check(); err != nil {
			return err
		}
		switch err := c.renew(ctx, t); {
		case err == nil:
			pause = c.every()
		case errors.Is(err, ErrOver):
			t.lasts(0)
			return err
		default:
			pause = c.poll()
			c.cfg.Logger.Warn("the lease is not renewed yet", "left", t.left().Round(time.Millisecond).String(), "error", err)
		}
	}
}

// renew writes the lease anew. The term lasts from before the write, however long that took.
func (c *Candidate) renew(ctx context.Context, t *Term) error {
	sent := c.now()
	ctx, cancel := context.WithTimeout(ctx, t.left())
	defer cancel()
	next := t.lease
	next.Renewed = time.Now()
	revision, err := c.write(ctx, next, t.revision)
	if err == nil {
		t.revision = revision
		t.lasts(sent + c.holds())
		return nil
	}
	if !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return err
	}
	there, revision, err := c.read(ctx) // a write whose answer was lost is ours too
	switch {
	case err != nil:
		return err
	case revision == 0:
		return fmt.Errorf("term %d: %w: the lease is gone from the bus", t.lease.Term, ErrOver)
	case there.Process != t.lease.Process || there.Term != t.lease.Term:
		return fmt.Errorf("term %d: %w: %s on %s has taken the lease", t.lease.Term, ErrOver, there.Holder, there.Host)
	}
	t.revision = revision
	return errors.New("its last answer was lost")
}

// free gives the lease up, so that another one need not wait. That it cannot is no error: then it waits.
func (c *Candidate) free(ctx context.Context, t *Term) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.poll()*2)
	defer cancel()
	t.lasts(0)
	next := t.lease
	next.Renewed, next.Free = time.Now(), true
	if _, err := c.write(ctx, next, t.revision); err != nil {
		c.cfg.Logger.Debug("give the lease up", "error", err)
	}
}

// take waits until the lease can be taken, and takes it. While the bus does not answer it keeps asking.
func (c *Candidate) take(ctx context.Context) (*Term, error) {
	var seen sight
	var t *Term
	silent := false
	err := await.Until(ctx, c.poll(), func() (bool, error) {
		there, revision, err := c.read(ctx)
		if err == nil && there.Fleet != "" && c.cfg.Self.Fleet != "" && there.Fleet != c.cfg.Self.Fleet {
			return false, hint.New(fmt.Sprintf("%s on %s leads with the keys of another fleet (%s, here %s)", there.Holder, there.Host, there.Fleet, c.cfg.Self.Fleet),
				"give all controllers of a fleet the same keys (authority_dir)")
		}
		if err == nil {
			if !seen.takes(there, revision, c.cfg.Self.Process, c.now(), c.cfg.Lasts) {
				c.waits(&seen, there)
				return false, nil
			}
			t, err = c.begin(ctx, there, revision)
		}
		if err != nil && ctx.Err() == nil && !silent {
			silent = true
			c.cfg.Logger.Warn("the lease cannot be looked at", "error", err)
		}
		return t != nil, nil
	})
	return t, err
}

func (c *Candidate) waits(seen *sight, there protocol.Lease) {
	if seen.told == there.Process {
		return
	}
	seen.told = there.Process
	c.cfg.Logger.Info("another controller leads, this one stands by", "leader", there.Holder, "host", there.Host, "term", there.Term, "since", there.Since)
	if c.cfg.Waits != nil {
		c.cfg.Waits(there)
	}
}

// begin takes the lease, unless another one was faster.
func (c *Candidate) begin(ctx context.Context, there protocol.Lease, revision uint64) (*Term, error) {
	sent, now := c.now(), time.Now()
	next := c.cfg.Self
	next.Term, next.Since, next.Renewed, next.Free = there.Term+1, now, now, false
	revision, err := c.write(ctx, next, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) || errors.Is(err, jetstream.ErrKeyExists) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &Term{lease: next, revision: revision, now: c.now, until: sent + c.holds()}, nil
}
