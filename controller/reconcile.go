package controller

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/lifecycle"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/store"
	"rehost/protocol"
)

// maxWorkers bounds how many servers are looked at at once. Most looks that take long wait for the cloud, whose driver has a
// pace of its own: they should not hold up those that would only take a moment.
const maxWorkers = 256

// retireKey is the worker that looks at idle replication servers; no server has such a name.
const retireKey = "*"

// workers gives each key to one goroutine at a time. Those beyond maxWorkers wait for their turn, the first to come first:
// were they sent away, those at the head of the list would take every slot, again and again.
type workers struct {
	slots chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	busy  map[string]bool // works, or waits for its turn
}

func newWorkers() *workers {
	return &workers{slots: make(chan struct{}, maxWorkers), busy: map[string]bool{}}
}

// try runs fn for the key, unless one runs already or is going to.
func (w *workers) try(key string, fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[key] {
		return
	}
	w.busy[key] = true
	w.wg.Go(func() {
		w.slots <- struct{}{}
		defer func() {
			w.mu.Lock()
			delete(w.busy, key)
			w.mu.Unlock()
			<-w.slots
		}()
		fn()
	})
}

// reconcile looks at every server again and again. It is level-triggered: whatever happened,
// and whatever a crash left undone, is seen at the next look.
func (c *controller) reconcile(ctx context.Context) error {
	w := newWorkers()
	defer w.wg.Wait()
	ticker := time.NewTicker(c.cfg.Timing.Tick)
	defer ticker.Stop()
	for {
		for _, name := range c.looks.due(c.names(), c.store.Fleet.Revision(store.AppliedKey), c.store.Servers.Revision, time.Now()) {
			w.try(name, func() { c.look(ctx, name) })
		}
		w.try(retireKey, func() { c.complain(ctx, "", c.staging.Retire(ctx)) })
		if err := c.guard(ctx, w); err != nil {
			return err
		}
		if ended := c.watch(ctx, w, ticker.C); ended {
			return nil
		}
	}
}

// names lists the servers that are configured, and those that have a record.
func (c *controller) names() []string {
	configured, recorded := c.store.Applied().Servers, c.store.Servers.Keys()
	names := make([]string, 0, max(len(configured), len(recorded)))
	known := make(map[string]bool, len(configured))
	for _, s := range configured {
		names, known[s.Name] = append(names, s.Name), true
	}
	for _, name := range recorded {
		if !known[name] {
			names = append(names, name)
		}
	}
	return names
}

// watch looks at servers of which something was heard, until the next tick. It returns true when ctx has ended.
func (c *controller) watch(ctx context.Context, w *workers, tick <-chan time.Time) bool {
	for {
		select {
		case <-ctx.Done():
			return true
		case <-tick:
			return false
		case <-c.reports.Changed():
			touched := c.reports.Touched()
			c.looks.touch(touched)
			for _, name := range touched {
				w.try(name, func() { c.look(ctx, name) })
			}
		}
	}
}

// look takes one server as far as it goes now, and wakes those who have new orders.
func (c *controller) look(ctx context.Context, name string) {
	c.looks.begin(name)
	revision := c.store.Servers.Revision(name)
	c.complain(ctx, name, c.reconcileServer(ctx, name))
	c.poke(name)
	c.looks.done(name, revision, time.Now().Add(c.pause(name)))
}

// guard looks at every replication server. The keys are no server's: names have no slash.
func (c *controller) guard(ctx context.Context, w *workers) error {
	all, err := c.store.Staging.List("")
	if err != nil {
		return err
	}
	for _, rs := range all {
		w.try("replicaserver/"+rs.Name, func() {
			c.complain(ctx, "", c.staging.Guard(ctx, rs.Name))
			c.pokeReplica(rs.Name)
		})
	}
	return nil
}

func (c *controller) complain(ctx context.Context, server string, err error) {
	if err != nil && ctx.Err() == nil {
		c.logger.Warn("reconcile", "server", server, "error", err)
	}
}

// reconcileServer takes one server as far as it goes now.
func (c *controller) reconcileServer(ctx context.Context, name string) error {
	_, _, _, wanted := fleet.Settings(c.store.Applied(), name)
	if _, err := c.store.Servers.Get(name); wanted && errors.Is(err, store.ErrNotFound) {
		err := c.store.Servers.Create(ctx, name, protocol.Server{Name: name, Lifecycle: protocol.NotReady, Since: time.Now()})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
	}
	if err := c.believe(ctx, name); err != nil {
		c.complain(ctx, name, err) // it is asked again
	}
	rec, err := c.advance(ctx, name, wanted)
	if err != nil {
		return err
	}
	switch {
	case rec.Lifecycle == protocol.Disconnected:
		return c.teardown(ctx, rec, c.staging.Disconnect)
	case !rec.Stopped.IsZero():
		return c.teardown(ctx, rec, c.staging.Halt)
	}
	return errors.Join(c.staging.Reconcile(ctx, name), c.points.Reconcile(ctx, name))
}

// advance notes what the reports say for good, and follows the lifecycle's edges.
func (c *controller) advance(ctx context.Context, name string, wanted bool) (protocol.Server, error) {
	report, _, known := c.reports.Agent(name)
	reason := ""
	rec, err := c.store.Servers.Update(ctx, name, func(r *protocol.Server) error {
		if known && r.Continuous.IsZero() && report.Generation == r.Generation && report.Replication == protocol.ReplicationContinuous && staging.Initiated(*r) {
			r.Continuous = time.Now()
		}
		if !wanted { // what an operator ordered of it does not hold when it comes back
			r.Stopped, r.Disconnect = time.Time{}, time.Time{}
		}
		if reason = lifecycle.Advance(r, wanted, time.Now()); r.Lifecycle == protocol.NotReady && r.Generation == "" && r.Wanted == protocol.WantDisconnect {
			r.Wanted = protocol.WantNothing // it is back
		}
		if state, known := c.desk.Replication(*r); known {
			r.Replication = c.lasting.See(name, r.Replication, state, time.Now())
		}
		return nil
	})
	if err == nil && reason != "" {
		c.logger.Info("lifecycle", "server", name, "state", rec.Lifecycle, "reason", reason)
	}
	return rec, err
}

// teardown removes what was made for a server that is no longer in the configuration, or whose replication an operator ended.
// end waits for the agent's part.
func (c *controller) teardown(ctx context.Context, rec protocol.Server, end func(context.Context, string) error) error {
	if rec.Generation == "" {
		return nil
	}
	for _, do := range []func(context.Context, string) error{end, c.staging.Unassign, c.runner.Sweep, c.staging.Forget} {
		if err := do(ctx, rec.Name); err != nil {
			return err
		}
	}
	c.logger.Info("replica removed", "server", rec.Name)
	return nil
}

// orders remembers what was last ordered, so that whoever gets a new order is woken.
type orders struct {
	mu   sync.Mutex
	last map[string]string // by poke subject
}

// poke wakes an agent and its replication server if their orders have changed. A lost poke costs one reporting period.
func (c *controller) poke(server string) {
	o := c.agentOrder(server)
	o.Bandwidth, o.SurveyHeld = 0, "" // what changes with what others do or with a report can wait for the next one
	c.pokeIfNew(protocol.PokeSubject(server), o)
	if rec, err := c.store.Servers.Get(server); err == nil && rec.Replica != "" {
		c.pokeReplica(rec.Replica)
	}
}

func (c *controller) pokeReplica(name string) {
	if o, err := c.replicaOrder(name); err == nil {
		c.pokeIfNew(protocol.ReplicaPokeSubject(name), o)
	}
}

func (c *controller) pokeIfNew(subject string, o any) {
	text, err := json.Marshal(o)
	if err != nil || !c.orders.isNew(subject, string(text)) {
		return
	}
	if err := c.nc.Publish(subject, nil); err != nil {
		c.logger.Debug("poke", "subject", subject, "error", err)
	}
}

func (o *orders) isNew(subject, text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = map[string]string{}
	}
	if o.last[subject] == text {
		return false
	}
	o.last[subject] = text
	return true
}
