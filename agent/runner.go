package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/agent/internal/ship"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

// runner is an agent that is connected. One goroutine reports and follows orders; a shipper runs beside it, and a
// point or a hook while there is one.
type runner struct {
	cfg     Config
	deps    Deps
	log     hclog.Logger
	source  *Source
	nc      *nats.Conn
	notify  func(string)
	changed chan struct{}
	tasks   sync.WaitGroup // points and hooks
	fence   *fence
	survey  *surveyor
	held    string     // survey that the controller has, by its last order; the loop's goroutine only
	rest    rest       // the loop's goroutine only
	id      string     // of this process, so that a second one with the same identity shows
	writes  writeRates // of the source's disks; the loop's goroutine only
	started int        // shippers so far
	current *shipping
}

// shipping is a shipper that runs.
type shipping struct {
	generation string
	shipper    *ship.Shipper
	cancel     context.CancelFunc
	done       chan error
}

func newRunner(cfg Config, deps Deps, source *Source, nc *nats.Conn, fence *fence) *runner {
	r := &runner{cfg: cfg, deps: deps, log: deps.Logger, source: source, nc: nc, notify: deps.Notify, changed: make(chan struct{}, 1)}
	if r.notify == nil {
		r.notify = func(string) {}
	}
	r.id = rand.Text()
	r.fence = fence
	fence.told(r.poke)
	r.survey = &surveyor{look: source.Survey, server: cfg.Server, log: r.log.Named("survey"), changed: r.poke}
	return r
}

// poke makes the next report come now.
func (r *runner) poke() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// run returns forget when the agent was told to disconnect.
func (r *runner) run(ctx context.Context) (forget bool, err error) {
	poke := make(chan *nats.Msg, 1)
	sub, err := r.nc.ChanSubscribe(protocol.PokeSubject(r.cfg.Server), poke)
	if err != nil {
		return false, fmt.Errorf("listen to the controller: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is closed next
	ctx, cancel := context.WithCancel(ctx)
	defer func() { // in this order: stop what runs, then wait for it
		cancel()
		err = errors.Join(err, r.stopShipping())
		r.tasks.Wait()
	}()
	r.notify("READY=1")
	r.log.Info("agent runs", "server", r.cfg.Server, "tier", r.source.Tier, "version", version.String())
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	silent := false
	for {
		order, err := r.report(ctx)
		switch {
		case err == nil && order.Wanted == protocol.WantDisconnect:
			return true, r.disconnect(ctx)
		case err == nil:
			silent = false
			if err := r.follow(ctx, order); err != nil {
				return false, err
			}
		case ctx.Err() != nil:
		case !silent:
			silent = true // the replication goes on without the controller
			r.log.Warn("controller does not answer", "error", err)
		}
		for due := false; !due; {
			select {
			case <-ticker.C:
				due = r.rest.due(r.state())
			case <-r.changed:
				due = true
			case <-poke:
				due = true
			case err := <-r.ended():
				r.current = nil
				return false, err
			case <-ctx.Done():
				r.notify("STOPPING=1")
				return false, nil
			}
		}
	}
}

// ended is where the shipper's end shows; nil when there is none.
func (r *runner) ended() <-chan error {
	if r.current == nil {
		return nil
	}
	return r.current.done
}

// report tells the controller what is, and returns what should be.
func (r *runner) report(ctx context.Context) (protocol.AgentOrder, error) {
	rep := r.state()
	r.notify("STATUS=" + string(rep.Replication))
	ctx, cancel := context.WithTimeout(ctx, 3*reportEvery)
	defer cancel()
	order, err := bus.Request[protocol.AgentReport, protocol.AgentOrder](ctx, r.nc, protocol.AgentReportSubject(r.cfg.Server), rep)
	if err != nil {
		r.rest.forget()
		return order, err
	}
	r.held = order.SurveyHeld
	r.rest.told(rep)
	return order, nil
}

func (r *runner) state() protocol.AgentReport {
	rep := protocol.AgentReport{
		Server: r.cfg.Server, Version: version.String(), Instance: r.id, Host: r.source.Host, Tier: r.source.Tier,
		TierNotes: slices.Clone(r.source.Notes), Replication: protocol.ReplicationStopped, At: time.Now(),
	}
	if r.current != nil {
		r.current.shipper.Report(&rep)
	} else {
		for _, d := range r.source.Disks {
			rep.Disks = append(rep.Disks, protocol.DiskReport{Name: d.Name, SizeBytes: d.SizeBytes, GranuleBytes: d.GranuleBytes, Need: d.SizeBytes})
		}
	}
	r.writes.look(r.source.Disks, rep.At)
	for i, d := range r.source.Disks {
		rep.Disks[i].Boot, rep.Disks[i].WriteRate = d.Boot, r.writes.rate(i)
	}
	if r.source.Check != nil {
		if err := r.source.Check(); err != nil {
			rep.Problems = append(rep.Problems, protocol.Problem{Code: protocol.ProblemAgentDisk, Message: err.Error(), Hint: hint.Of(err), Server: r.cfg.Server, At: time.Now()})
		}
	}
	if id, survey := r.survey.state(); id != "" {
		rep.SurveyID = id
		if id != r.held { // some ten kilobytes, each second, from each agent
			rep.Survey = survey
		}
	}
	r.fence.report(&rep)
	return rep
}

// follow makes the agent what the order says.
func (r *runner) follow(ctx context.Context, o protocol.AgentOrder) error {
	if r.current != nil && (o.Wanted == protocol.WantStop || o.Generation != "" && o.Generation != r.current.generation) {
		if err := r.stopShipping(); err != nil {
			return err
		}
	}
	if r.current == nil && o.Wanted == protocol.WantReplicate && o.Generation != "" {
		if err := r.startShipping(ctx, o.Generation); err != nil {
			return err
		}
		r.poke()
	}
	r.fence.want(ctx, &r.tasks, o)
	r.survey.want(ctx, &r.tasks, o.Survey)
	if r.current == nil {
		return nil
	}
	r.current.shipper.Order(o.Wanted == protocol.WantPause, o.Window, o.Bandwidth)
	if o.Verify != nil {
		r.current.shipper.Verify(*o.Verify)
	}
	if o.Point != nil && r.current.shipper.Announce(o.Point.ID) {
		shipper, point := r.current.shipper, *o.Point
		r.tasks.Go(func() {
			shipper.Point(ctx, point)
			r.poke()
		})
	}
	return nil
}

func (r *runner) startShipping(ctx context.Context, generation string) error {
	cfg := ship.Config{
		Server: r.cfg.Server, Generation: generation, BootID: r.source.Host.BootID, Tier: r.source.Tier, Tracker: r.source.Instance,
		File: filepath.Join(r.cfg.serverRunDir(), "granules"), Window: r.cfg.Window, Memory: r.cfg.Freeze.Memory,
		Budget: r.cfg.Freeze.Budget, Cap: r.cfg.Freeze.Cap, FrozenHook: r.cfg.FrozenHook, Verify: r.cfg.Verify, Periodic: r.source.Periodic,
	}
	for _, d := range r.source.Disks {
		cfg.Disks = append(cfg.Disks, ship.Disk{Name: d.Name, Identity: d.Identity, SizeBytes: d.SizeBytes, GranuleBytes: d.GranuleBytes, Reader: d.Reader})
	}
	shipper, err := ship.New(cfg, ship.Deps{
		// A second shipper of this process continues the tracker that the first one had.
		Tracker: r.source.Tracker, Resumed: r.source.Resumed || r.started > 0,
		Conn: r.nc, Freezer: r.source.Freezer, Free: r.source.Free, Check: r.source.Check, Scratch: r.source.Scratch, Writes: r.source.Writes, Fenced: r.fence.fenced,
		PreFreeze: r.preFreeze, PostThaw: r.postThaw, Logger: r.log.Named("ship"),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &shipping{generation: generation, shipper: shipper, cancel: cancel, done: make(chan error, 1)}
	r.started++
	r.current = s
	r.log.Info("replication begins", "generation", generation)
	go func() { s.done <- shipper.Run(ctx) }() // ends with stopShipping
	return nil
}

func (r *runner) stopShipping() error {
	if r.current == nil {
		return nil
	}
	r.current.cancel()
	err := <-r.current.done
	r.current = nil
	return err
}

// disconnect stops everything and tells the controller so.
func (r *runner) disconnect(ctx context.Context) error {
	err := r.stopShipping()
	rep := r.state()
	rep.Replication = protocol.ReplicationDisconnected
	ctx, cancel := context.WithTimeout(ctx, 3*reportEvery)
	defer cancel()
	if _, errReport := bus.Request[protocol.AgentReport, protocol.AgentOrder](ctx, r.nc, protocol.AgentReportSubject(r.cfg.Server), rep); errReport != nil {
		r.log.Warn("last report", "error", errReport)
	}
	r.log.Info("disconnected")
	return err
}
