// Package apply keeps one server's replica: it takes frames from the stream, lets through only what follows without a
// gap, verifies every byte before it writes one, and says that something is durable only after the flush and the
// checkpoint. It never reads the source's side of anything, and never repairs: a fault ends the session, and the agent
// sends again what is not durable.
//
// Goroutines for each replica: one that owns all state and writes, one that receives, and one for a flush under way.
package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/codec"
	"rehost/protocol"
)

const (
	flushEvery  = 250 * time.Millisecond
	flushBytes  = 64 << 20
	signalEvery = time.Second
	retryEvery  = time.Second
	stopLimit   = 10 * time.Second
)

// Target is one volume. One goroutine writes; Flush may run beside it.
type Target interface {
	WriteAt(b []byte, offset int64) (int, error)
	// ReadAt reads what was written, for hashing; b is fit for direct I/O. It may run beside everything else.
	ReadAt(b []byte, offset int64) (int, error)
	Zero(offset, length int64) error
	Flush() error
	SizeBytes() int64
}

// Deps is what a replica works with.
type Deps struct {
	Conn   *nats.Conn
	JS     jetstream.JetStream
	KV     jetstream.KeyValue // of checkpoints
	Logger hclog.Logger
	// Changed is called when the controller should hear of the replica now.
	Changed func()
}

// Replica applies the frames of one server's generation to its volumes.
type Replica struct {
	server, generation, stream string
	volumeIDs                  []string
	targets                    []Target
	deps                       Deps
	log                        hclog.Logger

	// Owned by Run's goroutine.
	chain     chain
	durable   protocol.Checkpoint // the last that is in KV
	revision  uint64
	unpack    codec.Unpacker
	touched   []bool
	dirty     int64 // bytes since the last flush began
	flushed   time.Time
	flushing  bool
	seq       uint64    // of the stream, last consumed
	born      time.Time // of the stream that seq speaks of
	held      *protocol.PointMark
	retry     *work // a frame that the volumes refused
	retryAt   time.Time
	flushBad  bool      // the last flush failed
	flushAt   time.Time // not before then, after a failure
	results   chan flushResult
	recv      *receiver
	signalled time.Time
	spent     spent         // since the last signal's load
	load      protocol.Load // of the time before

	mu       sync.Mutex       // guards the fields beneath
	session  protocol.Session // that may compare; what came before it is durable
	status   protocol.ReplicaStatus
	released []string
	wake     chan struct{}
}

// work is a frame that may be applied.
type work struct {
	frame  protocol.Frame
	digest protocol.Digest
	seq    uint64 // of the stream
}

// New returns the replica of an assignment on its open volumes.
func New(a protocol.ReplicaAssignment, targets []Target, checkpoint protocol.Checkpoint, revision uint64, deps Deps) *Replica {
	r := &Replica{
		server: a.Server, generation: a.Generation, stream: a.Stream, targets: targets, deps: deps, log: deps.Logger,
		durable: checkpoint, revision: revision, touched: make([]bool, len(targets)), results: make(chan flushResult, 1),
		released: a.Released, wake: make(chan struct{}, 1),
	}
	r.chain = chain{
		server: a.Server, generation: a.Generation, position: checkpoint.Position, lineage: slices.Clone(checkpoint.Lineage), epoch: checkpoint.Epoch,
		fresh: checkpoint.Fresh, origin: checkpoint.Origin,
	}
	r.session = checkpoint.Position.Session
	for i, t := range targets {
		r.volumeIDs = append(r.volumeIDs, a.Disks[i].Volume)
		r.chain.sizes = append(r.chain.sizes, t.SizeBytes())
	}
	if checkpoint.Held != "" {
		r.held = &protocol.PointMark{ID: checkpoint.Held}
		if checkpoint.Mark != nil {
			r.held = checkpoint.Mark
		}
	}
	r.recv = newReceiver(deps.JS, a.Stream, deps.Logger)
	r.status = protocol.ReplicaStatus{Server: a.Server, Generation: a.Generation}
	r.publishStatus()
	return r
}

// Key is where a generation's checkpoint is kept.
func Key(server, generation string) string { return server + "." + generation }

// Release says which points need not be held any more.
func (r *Replica) Release(points []string) {
	r.mu.Lock()
	r.released = slices.Clone(points)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Status returns what the controller should know.
func (r *Replica) Status() protocol.ReplicaStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Problems = slices.Clone(s.Problems)
	return s
}

// ErrConflict is returned by Run when somebody else has written the checkpoint: the replica must be opened anew.
var ErrConflict = errors.New("the checkpoint was changed by somebody else")

// Run applies frames until ctx ends; then it flushes and writes a last checkpoint.
func (r *Replica) Run(ctx context.Context) error {
	received, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { r.recv.run(received) })
	requests := make(chan *nats.Msg, scanQueue)
	sub, err := r.deps.Conn.ChanSubscribe(protocol.ScanSubject(r.server), requests)
	if err == nil {
		wg.Go(func() { r.scanLoop(received, requests) })
		err = errors.Join(r.loop(ctx), sub.Unsubscribe())
	}
	stop()
	wg.Wait()
	if ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())) {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
		defer cancel()
		err = r.flushNow(last)
	}
	if r.flushing {
		<-r.results
	}
	return err
}

func (r *Replica) loop(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	r.signalled = time.Now()
	for {
		in := r.recv.out
		if r.held != nil || r.retry != nil {
			in = nil
		}
		before := time.Now()
		select {
		case m := <-in:
			r.spent.waiting += time.Since(before)
			before = time.Now()
			if err := r.receive(ctx, m); err != nil {
				return err
			}
			r.spent.writing += time.Since(before)
		case res := <-r.results:
			if err := r.flushDone(res); err != nil {
				return err
			}
		case <-r.wake:
		case <-timer.C:
			if in != nil {
				r.spent.waiting += time.Since(before)
			}
		case <-ctx.Done():
			return nil
		}
		now := time.Now()
		if err := r.due(ctx, now); err != nil {
			return err
		}
		timer.Reset(r.idle(now))
	}
}

// idle returns for how long nothing is due, unless something comes.
func (r *Replica) idle(now time.Time) time.Duration {
	next := r.signalled.Add(signalEvery)
	earlier := func(t time.Time) {
		if t.Before(next) {
			next = t
		}
	}
	if r.retry != nil {
		earlier(r.retryAt)
	}
	if r.unflushed() && !r.flushing {
		due := r.flushed.Add(flushEvery)
		if due.Before(r.flushAt) {
			due = r.flushAt
		}
		earlier(due)
	}
	return next.Sub(now)
}

// due does what its time has come for.
func (r *Replica) due(ctx context.Context, now time.Time) error {
	r.release()
	if r.retry != nil && !now.Before(r.retryAt) {
		if err := r.apply(ctx, *r.retry); err != nil {
			return err
		}
	}
	if !now.Before(r.flushAt) && (r.dirty >= flushBytes || now.Sub(r.flushed) >= flushEvery) {
		r.startFlush(ctx)
	}
	if now.Sub(r.signalled) >= signalEvery {
		r.load = r.spent.load(now.Sub(r.signalled))
		r.signalled, r.spent = now, spent{}
		r.signal()
		r.publishStatus()
		r.recv.watch(ctx, r.held != nil || r.retry != nil)
	}
	return nil
}

// receive takes one message of the stream.
func (r *Replica) receive(ctx context.Context, m received) error {
	r.seq, r.born = m.seq, m.born
	r.mu.Lock()
	r.status.Received += int64(len(m.data))
	r.mu.Unlock()
	f, digest, err := protocol.DecodeFrame(m.data)
	if err != nil {
		// Whose it is cannot be told. The next frame, or the agent's probe, shows the gap.
		r.log.Warn("frame malformed", "stream_seq", m.seq, "error", err)
		return r.refused(ctx, r.chain.position.Session, protocol.NakMalformed, err.Error())
	}
	switch r.chain.judge(&f) {
	case ignore:
		return nil
	case refuse:
		return r.refused(ctx, protocol.Session{}, "", "")
	case outdated:
		r.log.Info("late session ignored", "session", f.Session.String(), "detail", r.chain.nak.Detail)
		r.signal()
		return nil
	case begin:
		// What the lineage says must be durable, so the session that ends is flushed first.
		if err := r.flushNow(ctx); err != nil {
			r.seq = m.seq - 1 // the stream keeps the frame
			return err
		}
		if r.chain.judge(&f) != begin { // the flush failed
			return nil
		}
		r.chain.advance(&f, digest)
		r.log.Info("session accepted", "session", f.Session.String(), "fresh", r.chain.fresh)
		if err := r.flushNow(ctx); err != nil {
			return err
		}
		r.mu.Lock()
		r.session = f.Session
		r.mu.Unlock()
		return nil
	case take:
		return r.apply(ctx, work{frame: f, digest: digest, seq: m.seq})
	}
	return nil
}

// refused tells the agent that a session cannot go on. What came before is good and is kept. A code is given when the
// chain has not noted one.
func (r *Replica) refused(ctx context.Context, s protocol.Session, code protocol.NakCode, detail string) error {
	if code != "" {
		r.chain.refuse(s, code, detail)
	}
	n := r.chain.nak
	r.log.Warn("session refused", "session", n.Session.String(), "code", string(n.Code), "detail", n.Detail)
	if err := r.flushNow(ctx); err != nil {
		return err
	}
	r.signal()
	return nil
}

// apply verifies and writes a frame. A volume that refuses is tried again, and nothing goes on meanwhile.
func (r *Replica) apply(ctx context.Context, w work) error {
	raw, err := r.unpack.Unpack(&w.frame)
	if err != nil {
		return r.refused(ctx, w.frame.Session, protocol.NakHash, fmt.Sprintf("frame %d: %v", w.frame.Seq, err))
	}
	if err := r.write(&w.frame, raw); err != nil {
		if r.retry == nil {
			r.log.Error("volume refuses a write, it is tried again", "error", err)
		}
		r.retry, r.retryAt = &w, time.Now().Add(retryEvery)
		r.seq = w.seq - 1 // the stream keeps the frame
		r.problem(&protocol.Problem{
			Code: protocol.ProblemVolume, Message: err.Error(), Server: r.server, At: time.Now(),
			Hint: "look at the volume and at the kernel log of the replication server; nothing is lost, the write is tried again",
		})
		return nil
	}
	if r.retry != nil {
		r.retry, r.seq = nil, w.seq
		r.problem(nil)
	}
	r.chain.advance(&w.frame, w.digest)
	if w.frame.Type == protocol.FramePoint {
		return r.hold(ctx, &w.frame)
	}
	return nil
}

func (r *Replica) write(f *protocol.Frame, raw []byte) error {
	for _, e := range f.Extents {
		t := r.targets[e.Disk]
		r.touched[e.Disk] = true
		if e.Kind == protocol.ExtentZero {
			if err := t.Zero(e.Offset, int64(e.Length)); err != nil {
				return fmt.Errorf("volume %s: %w", r.volumeIDs[e.Disk], err)
			}
			r.dirty += 4096
			continue
		}
		if _, err := t.WriteAt(raw[:e.Length], e.Offset); err != nil {
			return fmt.Errorf("write volume %s at %d: %w", r.volumeIDs[e.Disk], e.Offset, err)
		}
		raw = raw[e.Length:]
		r.dirty += int64(e.Length)
	}
	r.mu.Lock()
	r.status.Written += int64(f.RawSize)
	r.mu.Unlock()
	return nil
}

// hold stands still at a point: everything before it is made durable, and nothing after it is applied.
func (r *Replica) hold(ctx context.Context, f *protocol.Frame) error {
	var mark protocol.PointMark
	if err := json.Unmarshal(f.Meta, &mark); err != nil {
		return r.refused(ctx, f.Session, protocol.NakMalformed, "point: "+err.Error())
	}
	if r.isReleased(mark.ID) {
		r.log.Info("point passed, nobody waits for it", "point", mark.ID)
		return nil
	}
	r.held = &mark
	if err := r.flushNow(ctx); err != nil {
		return err
	}
	if r.durable.Held != mark.ID {
		r.held = nil // the flush failed: what is on the volumes is not the point
		return nil
	}
	r.log.Info("point held", "point", mark.ID, "seq", f.Seq)
	r.publishStatus()
	r.signal()
	r.deps.Changed()
	return nil
}

func (r *Replica) isReleased(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.released, id)
}

// release goes on when the point that is held is not awaited any more.
func (r *Replica) release() {
	if r.held == nil || !r.isReleased(r.held.ID) {
		return
	}
	r.log.Info("point released", "point", r.held.ID)
	r.held = nil
	r.publishStatus()
	r.signal()
	r.deps.Changed()
}

// signal tells the agent how far the replica is.
func (r *Replica) signal() {
	s := protocol.Signal{Generation: r.generation, Durable: r.durable.Position, Applied: r.chain.position.Seq, Fresh: r.durable.Fresh, Load: r.load, Nak: r.chain.nak}
	if r.held != nil {
		s.Held = r.held.ID
	}
	body, err := json.Marshal(s)
	if err == nil {
		err = r.deps.Conn.Publish(protocol.SignalSubject(r.server), body)
	}
	if err != nil {
		r.log.Debug("signal", "error", err) // it is repeated every second
	}
}

func (r *Replica) publishStatus() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Durable, r.status.Applied, r.status.Naks = r.durable.Position, r.chain.position.Seq, r.chain.naks
	r.status.Held = nil
	// A point is held when its checkpoint is written; until then it may still be lost.
	if r.held != nil && r.durable.Held == r.held.ID {
		mark := *r.held
		r.status.Held = &mark
	}
}

// problem sets or clears what a person should know.
func (r *Replica) problem(p *protocol.Problem) {
	r.mu.Lock()
	r.status.Problems = nil
	if p != nil {
		r.status.Problems = []protocol.Problem{*p}
	}
	r.mu.Unlock()
	r.deps.Changed()
}
