package replicaserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/hint"
	"rehost/protocol"
	"rehost/replicaserver/internal/apply"
)

const reopenEvery = 2 * time.Second

// worker runs the replica of one assignment, and opens it again when something ends it.
type worker struct {
	server     *server
	assignment protocol.ReplicaAssignment
	log        hclog.Logger
	cancel     context.CancelFunc
	done       chan struct{}

	mu       sync.Mutex // guards the fields beneath
	replica  *apply.Replica
	problem  *protocol.Problem
	released []string
}

// start runs a worker until it is stopped.
func (s *server) start(ctx context.Context, a protocol.ReplicaAssignment) *worker {
	// Not the caller's cancellation: a worker ends through stop, which waits for its last checkpoint.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w := &worker{server: s, assignment: a, log: s.log.Named("replica").With("server", a.Server), cancel: cancel, done: make(chan struct{}), released: a.Released}
	w.log.Info("replica assigned", "generation", a.Generation, "volumes", len(a.Disks))
	go func() { // ends with stop
		defer close(w.done)
		w.run(ctx)
	}()
	return w
}

func (w *worker) stop() {
	w.cancel()
	<-w.done
	w.log.Info("replica given up", "generation", w.assignment.Generation)
}

// same says whether an assignment is the one that the worker runs; which points are released does not matter.
func (w *worker) same(a protocol.ReplicaAssignment) bool {
	b := w.assignment
	return a.Server == b.Server && a.Generation == b.Generation && a.Stream == b.Stream &&
		slices.EqualFunc(a.Disks, b.Disks, func(x, y protocol.ReplicaVolume) bool { return x.Volume == y.Volume })
}

func (w *worker) release(points []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = points
	if w.replica != nil {
		w.replica.Release(points)
	}
}

func (w *worker) status() protocol.ReplicaStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := protocol.ReplicaStatus{Server: w.assignment.Server, Generation: w.assignment.Generation}
	if w.replica != nil {
		s = w.replica.Status()
	}
	if w.problem != nil {
		s.Problems = append(s.Problems, *w.problem)
	}
	return s
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := w.once(ctx)
		if err != nil && ctx.Err() == nil {
			w.fail(err)
		}
		select {
		case <-time.After(reopenEvery):
		case <-ctx.Done():
		}
	}
}

// fail notes what keeps the replica from running, and logs it when it is new.
func (w *worker) fail(err error) {
	p, ok := errors.AsType[*protocol.Problem](err)
	if !ok {
		p = &protocol.Problem{Code: protocol.ProblemVolume, Message: err.Error(), Hint: hint.Of(err), Server: w.assignment.Server, At: time.Now()}
	}
	w.mu.Lock()
	fresh := w.problem == nil || w.problem.Message != p.Message
	w.problem = p
	w.mu.Unlock()
	if fresh {
		w.log.Error("replica does not run", "error", err)
		w.server.poke()
	}
}

// once opens the volumes and the checkpoint, and applies frames until ctx or the replica ends.
func (w *worker) once(ctx context.Context) (err error) {
	kv, err := w.server.js.KeyValue(ctx, protocol.BucketCheckpoints)
	if err != nil {
		return fmt.Errorf("open the checkpoints: %w", err)
	}
	checkpoint, revision, err := w.load(ctx, kv)
	if err != nil {
		return err
	}
	targets, err := w.open(revision == 0)
	defer func() {
		for _, t := range targets {
			err = errors.Join(err, t.Close())
		}
	}()
	if err != nil {
		return err
	}
	if revision == 0 {
		checkpoint.Fresh = !slices.ContainsFunc(targets, func(v Volume) bool { return !v.Virgin() })
		// From now on nobody takes the volumes for empty.
		if revision, err = apply.Save(ctx, kv, checkpoint, 0); err != nil {
			return err
		}
	}
	var list []apply.Target
	for _, t := range targets {
		list = append(list, t)
	}
	replica := apply.New(w.assignment, list, checkpoint, revision, apply.Deps{
		Conn: w.server.nc, JS: w.server.js, KV: kv, Logger: w.log, Changed: w.server.poke,
	})
	w.mu.Lock()
	w.replica, w.problem = replica, nil
	replica.Release(w.released)
	w.mu.Unlock()
	return replica.Run(ctx)
}

// load reads the checkpoint; one that speaks of other volumes says nothing of these.
func (w *worker) load(ctx context.Context, kv jetstream.KeyValue) (protocol.Checkpoint, uint64, error) {
	a := w.assignment
	fresh := protocol.Checkpoint{Server: a.Server, Generation: a.Generation, At: time.Now()}
	for _, d := range a.Disks {
		fresh.Volumes = append(fresh.Volumes, d.Volume)
	}
	entry, err := kv.Get(ctx, apply.Key(a.Server, a.Generation))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return fresh, 0, nil
	}
	if err != nil {
		return fresh, 0, fmt.Errorf("read the checkpoint: %w", err)
	}
	var c protocol.Checkpoint
	if err := json.Unmarshal(entry.Value(), &c); err != nil || !slices.Equal(c.Volumes, fresh.Volumes) {
		w.log.Warn("checkpoint is not of these volumes, everything is asked for again", "error", err)
		fresh.Epoch = c.Epoch // what is late does not depend on the volumes
		return fresh, entry.Revision(), nil
	}
	return c, entry.Revision(), nil
}

// open opens the volumes. Those that were created empty are taken for empty once only, ever.
func (w *worker) open(first bool) ([]Volume, error) {
	var all []Volume
	for i, d := range w.assignment.Disks {
		virgin := d.Virgin && first && w.firstUse(d.Volume)
		v, err := w.server.open(w.server.cfg.ByID, d.Volume, virgin)
		if err != nil {
			return all, err
		}
		all = append(all, v)
		if v.SizeBytes() < d.SizeBytes {
			return all, &protocol.Problem{
				Code: protocol.ProblemVolumeTooSmall, Server: w.assignment.Server, At: time.Now(),
				Message: fmt.Sprintf("volume %s of disk %d has %d bytes, want %d", d.Volume, i, v.SizeBytes(), d.SizeBytes),
				Hint:    "enlarge the volume, or remove the server and add it again",
			}
		}
	}
	return all, nil
}

// firstUse notes that a volume is used, and says whether it was not before, as far as this server knows.
func (w *worker) firstUse(id string) bool {
	dir := filepath.Join(w.server.cfg.WorkDir, "used")
	if os.MkdirAll(dir, 0o700) != nil {
		return false
	}
	f, err := os.OpenFile(filepath.Join(dir, filepath.Base(id)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return false
	}
	return f.Close() == nil
}
