package controller

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/lifecycle"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/store"
	"rehost/protocol"
)

// maxWorkers bounds how many servers are looked at at once: most workers wait for the cloud.
const maxWorkers = 32

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
		servers, err := c.store.Servers.List("")
		if err != nil {
			return err
		}
		applied := c.store.Applied()
		var names []string
		for _, s := range applied.Servers {
			names = append(names, s.Name)
		}
		for _, r := range servers {
			if !slices.Contains(names, r.Name) {
				names = append(names, r.Name)
			}
		}
		for _, name := range names {
			w.try(name, func() { c.complain(ctx, name, c.reconcileServer(ctx, name)) })
		}
		w.try(retireKey, func() { c.complain(ctx, "", c.staging.Retire(ctx)) })
		if err := c.guard(ctx, w); err != nil {
			return err
		}
		c.poke(names)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-c.reports.Changed():
		}
	}
}

// guard looks at every replication server. The keys are no server's: names have no slash.
func (c *controller) guard(ctx context.Context, w *workers) error {
	all, err := c.store.Staging.List("")
	if err != nil {
		return err
	}
	for _, rs := range all {
		w.try("replicaserver/"+rs.Name, func() { c.complain(ctx, "", c.staging.Guard(ctx, rs.Name)) })
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
	last map[string]string // by poke subject
}

// poke wakes those whose order has changed. A lost poke costs one reporting period.
func (c *controller) poke(servers []string) {
	if c.orders.last == nil {
		c.orders.last = map[string]string{}
	}
	for _, name := range servers {
		o := c.agentOrder(name)
		o.Bandwidth, o.SurveyHeld = 0, "" // what changes with what others do or with a report can wait for the next one
		c.pokeIfNew(protocol.PokeSubject(name), o)
	}
	replicas, err := c.store.Staging.List("")
	if err != nil {
		c.logger.Warn("list replication servers", "error", err)
		return
	}
	for _, rs := range replicas {
		if o, err := c.replicaOrder(rs.Name); err == nil {
			c.pokeIfNew(protocol.ReplicaPokeSubject(rs.Name), o)
		}
	}
}

func (c *controller) pokeIfNew(subject string, o any) {
	text, err := json.Marshal(o)
	if err != nil || c.orders.last[subject] == string(text) {
		return
	}
	c.orders.last[subject] = string(text)
	if err := c.nc.Publish(subject, nil); err != nil {
		c.logger.Debug("poke", "subject", subject, "error", err)
	}
}
