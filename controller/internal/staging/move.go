package staging

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/store"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// stepMove is where a move's problems happen.
const stepMove = "MOVE"

// moveAgain is what to do when the wanted replication server is no longer there.
const moveAgain = "order the move again: rehost server move, without --to for any other one"

// moveTold is how long the reason of a move that came to nothing stays in the status.
const moveTold = time.Hour

// moving is since when this process has known that a replica is ordered to be given up: reports that came before say nothing.
type moving struct {
	ordered time.Time // of the move
	since   time.Time
}

// Move orders a server to another replication server. What follows is done by [Staging.Reconcile]. The same order once more is no
// error.
func (s *Staging) Move(ctx context.Context, req protocol.MoveRequest) (protocol.Move, error) {
	rec, err := s.store.Servers.Get(req.Server)
	if err != nil {
		return protocol.Move{}, &protocol.Problem{Code: protocol.ProblemUnknown, Message: fmt.Sprintf("no server %q", req.Server), Hint: "rehost status lists the servers"}
	}
	if rec.Move != nil && rec.Move.To == req.To {
		return *rec.Move, nil
	}
	if p := s.movable(rec, req.To); p != nil {
		return protocol.Move{}, p
	}
	m := protocol.Move{From: rec.Replica, To: req.To, Ordered: time.Now()}
	_, err = s.store.Servers.Update(ctx, req.Server, func(r *protocol.Server) error {
		if r.Move != nil || r.Job != "" || r.Replica != m.From {
			return cannotMove(r.Name, "it has changed meanwhile", "look at it, and try again: rehost status")
		}
		r.Move = &m
		if r.Problem != nil && r.Problem.Step == stepMove {
			r.Problem = nil
		}
		return nil
	})
	if err == nil {
		s.logger.Info("move ordered", "server", req.Server, "from", m.From, "to", m.To)
	}
	return m, err
}

func cannotMove(server, reason, next string) *protocol.Problem {
	return &protocol.Problem{Code: protocol.ProblemConflict, Server: server, Message: fmt.Sprintf("server %s cannot be moved: %s", server, reason), Hint: next}
}

// movable says why a server cannot be moved now, or nil.
func (s *Staging) movable(rec protocol.Server, to string) *protocol.Problem {
	settings, replication, _, wanted := fleet.Settings(s.store.Applied(), rec.Name)
	rs, err := s.store.Staging.Get(rec.Replica)
	switch {
	case rec.Move != nil:
		return cannotMove(rec.Name, "it is on its way from "+rec.Move.From+" already", "wait for that: rehost status")
	case !wanted || rec.Wanted == protocol.WantDisconnect || !rec.Finalized.IsZero():
		return cannotMove(rec.Name, "its replication has ended", "nothing is to be moved")
	case rec.Job != "":
		return cannotMove(rec.Name, "job "+rec.Job+" works on it", "wait for the job: rehost job show "+rec.Job+" --follow")
	case rec.Replica == "" || err != nil || !Initiated(rec) || rec.Replacing != "" || !rs.Lost.IsZero():
		return cannotMove(rec.Name, "it is still on the way to a replication server", "wait until its initiation steps are done: rehost status")
	case to == rec.Replica:
		return cannotMove(rec.Name, "it is on "+to, "name another one, or none for any other one")
	case to == "" || to == protocol.MoveDedicated:
		return nil
	}
	target, err := s.store.Staging.Get(to)
	if err != nil {
		return &protocol.Problem{
			Code: protocol.ProblemUnknown, Server: rec.Name, Message: fmt.Sprintf("no replication server %q", to), Hint: "rehost status -o json lists them under replication_servers",
		}
	}
	w := &work{Staging: s, rec: rec, settings: settings, replication: replication}
	if reason := w.unfit(target); reason != "" {
		return cannotMove(rec.Name, to+" cannot take it: "+reason, "name another one, or none for any other one")
	}
	return nil
}

// move takes a server that is to be moved as far as it goes now. Until the new replication server is up, nothing happens to the
// replica; then the old one gives it up (flushed, checkpointed, closed) and says so, and the volumes are detached, which the
// cloud says. Only then is the replica the new one's: there is one writer at any time. From there on the initiation steps
// attach and pair as they do after a replacement.
func (w *work) move(ctx context.Context) error {
	if err := w.forgetMove(ctx); err != nil || w.rec.Move == nil {
		return err
	}
	if !w.rec.Move.Released.IsZero() {
		return w.unlist(ctx, w.rec.Move.From, w.rec.Name)
	}
	done, detail, err := w.moveOn(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if _, over := errors.AsType[*futile](err); over || (err != nil && w.rec.Move.Releasing.IsZero() && time.Since(w.rec.Move.Ordered) > w.cfg.ReplicaBoot) {
		return w.stay(ctx, err)
	}
	if err != nil {
		w.logger.Warn("move", "server", w.rec.Name, "from", w.rec.Move.From, "to", w.rec.Move.Target, "error", err)
		w.backOff(w.rec.Name)
		detail = err.Error()
	}
	if done {
		w.logger.Info("server moves", "server", w.rec.Name, "from", w.rec.Move.From, "to", w.rec.Move.Target)
		return w.unlist(ctx, w.rec.Move.From, w.rec.Name)
	}
	return w.update(ctx, func(r *protocol.Server) {
		if r.Move != nil {
			r.Move.Detail = detail
		}
	})
}

// forgetMove takes the reason of an old move out of the status.
func (w *work) forgetMove(ctx context.Context) error {
	if p := w.rec.Problem; p == nil || p.Step != stepMove || time.Since(p.At) < moveTold {
		return nil
	}
	return w.update(ctx, func(r *protocol.Server) { r.Problem = nil })
}

// futile is an error that ends a move: the server stays where it is.
type futile struct{ error }

func (f *futile) Unwrap() error { return f.error }

// moveOn says done when the replica has become the new replication server's.
func (w *work) moveOn(ctx context.Context) (done bool, detail string, err error) {
	if err := w.reserve(ctx); err != nil {
		return false, "", err
	}
	if w.rec.Move.Releasing.IsZero() {
		if up, detail, err := w.bringUp(ctx); err != nil || !up {
			return false, detail, err
		}
		if held, err := w.heldPoint(); err != nil || held != "" {
			return false, "waiting for the snapshots of point " + held, err
		}
		if err := w.update(ctx, func(r *protocol.Server) { r.Move.Releasing = time.Now() }); err != nil {
			return false, "", err
		}
	}
	if !w.released() {
		if time.Since(w.rec.Move.Releasing) < w.cfg.Release {
			return false, "waiting for " + w.rec.Move.From + " to give the replica up", nil
		}
		return false, "", &futile{hint.New(fmt.Sprintf("replication server %s has not given the replica up within %s", w.rec.Move.From, w.cfg.Release),
			"look at its instance in the cloud; if it is dead, it is replaced by itself")}
	}
	if err := w.detach(ctx); err != nil {
		return false, "", err
	}
	return true, "", w.update(ctx, func(r *protocol.Server) {
		r.Replica, r.Move.Released, r.Move.Detail = r.Move.Target, time.Now(), ""
		startAnew(r, stepsOfReplica)
	})
}

// reserve puts the server on the list of the one that it moves to. It is in that one's record before it is in the server's.
func (w *work) reserve(ctx context.Context) error {
	w.assign.Lock()
	defer w.assign.Unlock()
	m := *w.rec.Move
	all, err := w.store.Staging.List("")
	if err != nil {
		return err
	}
	var name string
	for _, rs := range all {
		if rs.Name != m.From && usable(rs) && slices.Contains(rs.Servers, w.rec.Name) {
			name = rs.Name
		}
	}
	switch {
	case name != "":
	case !m.Releasing.IsZero():
		return &futile{hint.New(fmt.Sprintf("replication server %s was lost before it had the replica", m.Target), moveAgain)}
	case m.To == "":
		name, err = w.place(ctx, all, m.From)
	case m.To == protocol.MoveDedicated:
		name, err = w.create(ctx, true)
	default:
		name, err = m.To, w.claim(ctx, m.To)
	}
	if err != nil || name == m.Target {
		return err
	}
	return w.update(ctx, func(r *protocol.Server) { r.Move.Target = name })
}

// claim puts the server on the list of the replication server that the operator named.
func (w *work) claim(ctx context.Context, name string) error {
	rs, err := w.store.Staging.Get(name)
	if errors.Is(err, store.ErrNotFound) {
		return &futile{hint.New(fmt.Sprintf("replication server %s is gone", name), moveAgain)}
	}
	if err != nil {
		return err
	}
	if reason := w.unfit(rs); reason != "" {
		return &futile{hint.New(fmt.Sprintf("replication server %s cannot take it any more: %s", name, reason), moveAgain)}
	}
	if err = w.list(ctx, name); errors.Is(err, errRetired) {
		return &futile{hint.New(fmt.Sprintf("replication server %s is being removed", name), moveAgain)}
	}
	return err
}

// bringUp launches the new replication server, and waits for its reports.
func (w *work) bringUp(ctx context.Context) (up bool, detail string, err error) {
	next := *w
	next.rec.Replica = w.rec.Move.Target
	for _, step := range []stepFunc{ensureInstance, bootReplicaServer, authenticate} {
		if done, detail, err := step(ctx, &next); err != nil || !done {
			return false, detail, err
		}
	}
	_, at, _ := w.reports.ReplicaServer(next.rec.Replica)
	return time.Since(at) <= w.cfg.ReplicaLost, "waiting for a report of " + next.rec.Replica, nil
}

// heldPoint returns the point at which the replica stands still for its snapshots, or "": they are made of attached volumes.
func (w *work) heldPoint() (string, error) {
	points, err := w.store.Points.List(w.rec.Name + ".")
	if err != nil {
		return "", err
	}
	for _, pt := range points {
		if pt.State == protocol.PointHeld {
			return pt.ID, nil
		}
	}
	return "", nil
}

// released says that the old replication server has confirmed that it has closed the replica. Its order has not named the
// replica since before that report, so it cannot open it again.
func (w *work) released() bool {
	m := w.rec.Move
	w.mu.Lock()
	seen := w.moves[w.rec.Name]
	if !seen.ordered.Equal(m.Ordered) {
		seen = moving{ordered: m.Ordered, since: time.Now()}
		w.moves[w.rec.Name] = seen
	}
	w.mu.Unlock()
	_, at, ok := w.reports.ReplicaServer(m.From)
	_, holds := w.reports.Replica(m.From, w.rec.Name, w.rec.Generation)
	return ok && at.After(seen.since) && !holds
}

// detach takes the volumes from the old replication server's instance, and awaits the cloud's word for each.
func (w *work) detach(ctx context.Context) error {
	from, err := w.store.Staging.Get(w.rec.Move.From)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.cfg.Release, fmt.Errorf("not within %s", w.cfg.Release))
	defer cancel()
	volumes, err := w.cloud.Volumes(ctx, cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume, cloud.TagServer: w.rec.Name})
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if v.Instance == "" || v.Instance != from.Instance {
			continue
		}
		if err := w.cloud.DetachVolume(ctx, v.ID, nil); err != nil {
			return hint.Wrap(fmt.Errorf("detach from %s, which has given the replica up: %w", from.Name, err),
				"it is tried again; if the cloud keeps the volume in state detaching, terminate instance "+from.Instance+" there, and its servers get another replication server")
		}
	}
	return nil
}

// stay ends a move that leads nowhere. What was begun is undone: the old replication server has the replica, with the
// volumes that were detached already.
func (w *work) stay(ctx context.Context, reason error) error {
	m := *w.rec.Move
	w.logger.Warn("move given up", "server", w.rec.Name, "from", m.From, "to", m.Target, "error", reason)
	problem := ProblemOf(fmt.Errorf("%s stays on %s: %w", w.rec.Name, m.From, reason), w.rec.Name, stepMove)
	if problem.Code == protocol.ProblemInternal {
		problem.Code = protocol.ProblemReplicaUnreachable
	}
	if m.Target != "" {
		if err := w.unlist(ctx, m.Target, w.rec.Name); err != nil {
			return err
		}
	}
	return w.update(ctx, func(r *protocol.Server) {
		r.Move, r.Problem = nil, problem
		if !m.Releasing.IsZero() {
			startAnew(r, []protocol.InitiationStep{protocol.StepAttachStagingDisks, protocol.StepPairReplicaServer})
		}
	})
}
