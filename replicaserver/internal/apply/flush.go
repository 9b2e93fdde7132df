package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/protocol"
)

// kvLimit bounds one write of a checkpoint, and purgeLimit one purge.
const (
	kvLimit    = 5 * time.Second
	purgeLimit = 5 * time.Second
)

// flushResult is the outcome of a flush and of the checkpoint after it.
type flushResult struct {
	checkpoint protocol.Checkpoint
	touched    []bool
	took       time.Duration // of the flush
	revision   uint64
	errVolume  error
	errKV      error
}

// startFlush begins to make durable what has been applied, unless a flush is under way or there is nothing to do.
// Frames go on being applied meanwhile; they belong to the next flush.
func (r *Replica) startFlush(ctx context.Context) {
	if r.flushing {
		return
	}
	if !r.unflushed() {
		r.flushed = time.Now()
		return
	}
	cp := protocol.Checkpoint{
		Server: r.server, Generation: r.generation, Position: r.chain.position, Epoch: r.chain.epoch, StreamSeq: r.seq,
		Lineage: slices.Clone(r.chain.lineage), Volumes: r.volumeIDs, Origin: r.chain.origin, Fresh: r.chain.fresh, Held: r.heldID(), Mark: r.held, At: time.Now(),
	}
	touched := r.touched
	r.touched = make([]bool, len(r.targets))
	r.dirty, r.flushing, r.flushed = 0, true, time.Now()
	revision, born := r.revision, r.born
	// The context does not end with the replica: a flush that was begun is waited for.
	ctx = context.WithoutCancel(ctx)
	go func() { // ends with its result, which Run waits for
		r.results <- r.flush(ctx, flushResult{checkpoint: cp, touched: touched, revision: revision}, born)
	}()
}

// unflushed says whether the last checkpoint does not say all that has been applied.
func (r *Replica) unflushed() bool {
	return r.chain.position != r.durable.Position || r.seq != r.durable.StreamSeq || r.heldID() != r.durable.Held
}

func (r *Replica) heldID() string {
	if r.held == nil {
		return ""
	}
	return r.held.ID
}

// flush makes the volumes durable, then writes the checkpoint, then lets the stream be freed; the agent is told when it
// returns. In this order, since each step lets somebody forget what the one before it has made safe.
func (r *Replica) flush(ctx context.Context, res flushResult, born time.Time) (done flushResult) {
	begun := time.Now()
	defer func() { done.took = time.Since(begun) }()
	if ackBeforeFlush {
		defer func() { done.errVolume = r.flushVolumes(res.touched) }()
	} else if res.errVolume = r.flushVolumes(res.touched); res.errVolume != nil {
		return res
	}
	res.revision, res.errKV = Save(ctx, r.deps.KV, res.checkpoint, res.revision)
	if res.errKV != nil {
		return res
	}
	r.recv.free(res.checkpoint.StreamSeq, born)
	return res
}

func (r *Replica) flushVolumes(touched []bool) error {
	for i, t := range r.targets {
		if !touched[i] {
			continue
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("volume %s: %w", r.volumeIDs[i], err)
		}
	}
	return nil
}

// Save writes a checkpoint over the one of the given revision; 0: there is none yet.
func Save(ctx context.Context, kv jetstream.KeyValue, cp protocol.Checkpoint, revision uint64) (uint64, error) {
	body, err := json.Marshal(cp)
	if err != nil {
		return revision, fmt.Errorf("encode checkpoint: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, kvLimit)
	defer cancel()
	next, err := kv.Update(ctx, Key(cp.Server, cp.Generation), body, revision)
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return revision, fmt.Errorf("%w: %w", ErrConflict, err)
	}
	if err != nil {
		return revision, fmt.Errorf("write checkpoint: %w", err)
	}
	return next, nil
}

// flushDone takes in the outcome of a flush.
func (r *Replica) flushDone(res flushResult) error {
	r.flushing = false
	r.spent.flushing += res.took
	switch {
	case res.errVolume != nil:
		r.flushFailed(res)
	case errors.Is(res.errKV, ErrConflict):
		return res.errKV
	case res.errKV != nil:
		// The volumes are ahead of the checkpoint, which is always safe. The next flush tries again.
		r.log.Warn("checkpoint not written", "error", res.errKV)
	default:
		r.revision, r.durable = res.revision, res.checkpoint
		if r.flushBad {
			r.flushBad = false
			r.problem(nil)
		}
		r.signal()
	}
	return nil
}

// flushFailed goes back to the last checkpoint. The kernel may have dropped what it could not write, and a second flush
// would then succeed without it; so everything after the checkpoint has to be sent again.
func (r *Replica) flushFailed(res flushResult) {
	if !r.flushBad {
		r.log.Error("volume refuses to flush, everything after the checkpoint is asked for again", "error", res.errVolume, "seq", r.durable.Position.Seq)
	}
	r.flushBad, r.flushAt = true, time.Now().Add(retryEvery)
	for i := range r.touched {
		r.touched[i] = r.touched[i] || res.touched[i]
	}
	failed := r.chain.position.Session
	r.chain.position, r.chain.lineage, r.chain.origin = r.durable.Position, slices.Clone(r.durable.Lineage), r.durable.Origin
	if r.chain.nak == nil || r.chain.nak.Session != failed {
		r.chain.refuse(failed, protocol.NakGap, "flush: "+res.errVolume.Error())
	}
	r.held, r.retry = nil, nil
	r.signal()
	r.problem(&protocol.Problem{
		Code: protocol.ProblemVolume, Message: res.errVolume.Error(), Server: r.server, At: time.Now(),
		Hint: "look at the volume and at the kernel log of the replication server; the source sends again what is not durable",
	})
}

// flushNow makes everything applied so far durable before it returns. A volume that fails shows in the chain's nak.
func (r *Replica) flushNow(ctx context.Context) error {
	for {
		if r.flushing {
			select {
			case res := <-r.results:
				if err := r.flushDone(res); err != nil || res.errVolume != nil {
					return err
				}
				if res.errKV != nil && !pause(ctx, retryEvery) {
					return ctx.Err()
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.startFlush(ctx)
		if !r.flushing {
			return nil
		}
	}
}

// pause waits for d, and says whether ctx did not end before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
