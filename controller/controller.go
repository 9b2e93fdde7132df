// Package controller is the daemon that takes a fleet through its migration. It owns the
// records and everything that follows from them: staging, points, jobs. It never touches a
// block of data: agents and replication servers do that, as it orders.
//
// Goroutines: one for each record bucket's mirror, one reconcile loop with at most one worker
// per server, one for the jobs with one per job and server in work, one for the
// events, some for each webhook, and those of the bus.
package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"rehost/controller/internal/account"
	"rehost/controller/internal/audit"
	"rehost/controller/internal/backup"
	"rehost/controller/internal/event"
	"rehost/controller/internal/lease"
	"rehost/controller/internal/observe"
	"rehost/controller/internal/operator"
	"rehost/controller/internal/point"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/step"
	"rehost/controller/internal/store"
	"rehost/controller/internal/webhook"
	"rehost/internal/barrier"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/protocol"
)

const (
	defaultName = "main"
	// defaultJobServers is for those who run a controller without its file.
	defaultJobServers = 20
	defaultJobsReady  = 2
)

// controller is the parts, wired.
type controller struct {
	cfg       Config
	logger    hclog.Logger
	authority *broker.Authority // nil: the bus is not ours
	bus       protocol.Bus
	nc        *nats.Conn
	store     *store.Store
	cloud     Cloud
	reports   *observe.Reports
	staging   *staging.Staging
	points    *point.Points
	barrier   *barrier.Service
	account   *account.Account
	runner    *step.Runner
	desk      *operator.Desk
	audit     *audit.Log
	events    *event.Publisher
	webhooks  *webhook.Webhooks
	lasting   observe.Lasting
	term      *lease.Term
	orders    orders
	looks     *looks
	shares    shares
}

// Run is the controller: it blocks until ctx ends or the bus is lost for good. Running jobs
// stay where they are, and the next Run goes on with them. Of several controllers at a bus that others run, one leads and the others stand by.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	cfg.Timing.fill()
	if cfg.Name == "" {
		cfg.Name = defaultName
	}
	if cfg.External == nil {
		release, err := lockDir(ctx, cfg.Dir, lockPatience)
		if err != nil {
			return fmt.Errorf("be the only controller of %s: %w", cfg.Dir, err)
		}
		defer func() { _ = release() }() // it ends with the process at the latest
	}
	at, authority, server, err := openBus(ctx, cfg, deps)
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
	}
	if cfg.External == nil || cfg.Alone {
		return lead(ctx, cfg, deps, at, authority, server, nil)
	}
	return stand(ctx, cfg, deps, at)
}

// lead is the controller for one term. Everything in it is made anew: nothing of an earlier term is left in the process.
func lead(ctx context.Context, cfg Config, deps Deps, at bus.Context, authority *broker.Authority, server *broker.Server, term *lease.Term) error {
	if deps.Cloud == nil {
		if authority != nil {
			fleet, err := authority.Fleet()
			if err != nil {
				return err
			}
			cfg.Cloud.Fleet = fleet
		}
		cfg.Cloud.May = term.Check
		client, err := cloud.Open(ctx, cfg.Cloud)
		if err != nil {
			return err
		}
		deps.Cloud = client
	}
	nc, js, err := openStreams(ctx, at, deps.Logger.Named("bus"))
	if err != nil {
		return err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(context.Cause(ctx), lease.ErrOver) {
			nc.Close() // what is on its way comes too late
		}
	})()
	st, err := store.Open(ctx, js)
	if err != nil {
		return err
	}
	st.Only(term.Check)
	log, err := audit.Open(ctx, js, deps.Logger.Named("audit"))
	if err != nil {
		return err
	}
	events, err := event.Open(ctx, js, st, deps.Logger.Named("event"))
	if err != nil {
		return err
	}
	c := wire(cfg, deps, at.Bus, authority, server, nc, js, st, log, events, term)
	return c.run(ctx, deps.Ready)
}

// openStreams gets a connection, which is to be closed, and the streams behind it.
func openStreams(ctx context.Context, at bus.Context, log hclog.Logger) (*nats.Conn, jetstream.JetStream, error) {
	nc, err := bus.Connect(ctx, at, log)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, fmt.Errorf("open jetstream: %w", err)
	}
	return nc, js, nil
}

// RunBus is the bus alone, for controllers that run elsewhere. It blocks until ctx ends.
func RunBus(ctx context.Context, cfg Config, deps Deps) error {
	release, err := lockDir(ctx, cfg.Dir, lockPatience)
	if err != nil {
		return fmt.Errorf("be the only one who uses %s: %w", cfg.Dir, err)
	}
	defer func() { _ = release() }() // it ends with the process at the latest
	at, _, server, err := openBus(ctx, cfg, deps)
	if err != nil {
		return err
	}
	defer server.Close()
	if deps.Ready != nil {
		deps.Ready(at.Bus)
	}
	<-ctx.Done()
	return nil
}

// openBus starts the embedded bus, or takes the one that others run; then there is no server.
func openBus(ctx context.Context, cfg Config, deps Deps) (bus.Context, *broker.Authority, *broker.Server, error) {
	if cfg.External != nil {
		return *cfg.External, deps.Authority, nil, nil
	}
	server, err := broker.Listen(ctx, broker.ServerConfig{Dir: busDir(cfg.Dir), Address: cfg.Listen, Hosts: cfg.Hosts, Logger: deps.Logger.Named("nats")})
	if err != nil {
		return bus.Context{}, nil, nil, err
	}
	self, err := server.Authority().Identity(protocol.RoleController, cfg.Name)
	if err == nil {
		err = saveOperator(cfg, server)
	}
	if err != nil {
		server.Close()
		return bus.Context{}, nil, nil, err
	}
	return bus.Context{Bus: server.Bus(), Identity: self}, server.Authority(), server, nil
}

// saveOperator writes the context with which an operator on this machine reaches the controller.
func saveOperator(cfg Config, server *broker.Server) error {
	path := cfg.OperatorContext
	if path == "" {
		path = filepath.Join(cfg.Dir, "operator.json")
	}
	old, err := bus.LoadContext(path)
	if err == nil && old.Identity.Role == protocol.RoleOperator && old.Bus.CA == server.Bus().CA {
		old.Bus = server.Bus() // the address may have changed
		return bus.SaveContext(path, old)
	}
	id, err := server.Authority().Identity(protocol.RoleOperator, "local")
	if err != nil {
		return err
	}
	return bus.SaveContext(path, bus.Context{Bus: server.Bus(), Identity: id})
}

func wire(cfg Config, deps Deps, at protocol.Bus, authority *broker.Authority, server *broker.Server, nc *nats.Conn, js jetstream.JetStream, st *store.Store, log *audit.Log, events *event.Publisher, term *lease.Term) *controller {
	t := cfg.Timing
	c := &controller{
		cfg: cfg, logger: deps.Logger, authority: authority, bus: at, nc: nc, store: st, cloud: deps.Cloud, audit: log, reports: observe.NewReports(), looks: newLooks(),
		events: events, webhooks: webhook.New(cfg.Webhooks, js, st, deps.Logger.Named("webhook")), lasting: observe.Lasting{For: t.Lasting},
		term: term,
	}
	forReplicas := at
	if len(cfg.ReplicaBus) > 0 {
		forReplicas.Servers = cfg.ReplicaBus
	}
	c.staging = staging.New(staging.Config{Retry: t.Retry, ReplicaLost: t.ReplicaLost, Release: t.ReplicaRelease, ReplicaBoot: t.ReplicaBoot, AgentGone: t.AgentLost, Poll: t.Poll},
		st, c.reports, deps.Cloud, &streams{js: js, authority: authority, bus: forReplicas, may: term.Check}, deps.Logger.Named("staging"))
	c.points = point.New(point.Config{HeldWithin: t.PointHeld, TakenWithin: t.PointTaken, ReadWithin: t.SnapshotRead}, st, c.reports, deps.Cloud, deps.Logger.Named("point"))
	c.barrier = barrier.New(c.points.Members)
	c.account = account.New(deps.Cloud, c.known)
	c.runner = step.NewRunner(step.Config{Poll: t.Poll, Retry: t.Retry, AgentLost: t.AgentLost, Fence: t.Fence, WayBack: t.WayBack, Ready: t.Ready, Booted: cmp.Or(cfg.JobsReady, defaultJobsReady), Servers: cmp.Or(cfg.JobServers, defaultJobServers), GateCommands: cfg.GateCommands},
		st, c.reports, deps.Cloud, c.account, c.points, c.staging, deps.Logger.Named("job"))
	var tokens operator.Tokens
	if authority != nil {
		tokens = authority
	}
	cuts := backup.New(st, js, log, cfg.Dir, fleetOf(authority))
	var revoker operator.Revoker
	if server != nil {
		revoker = server
	}
	c.desk = operator.NewDesk(operator.Config{LostAfter: t.AgentLost, ReplicaLost: t.ReplicaLost, Bus: at, Leader: term.Lease()}, st, c.reports, c.runner, c.points, c.staging, deps.Cloud, c.account, log, cuts, events, tokens, revoker)
	return c
}

// fleetOf names the fleet by the keys of its bus, or not at all.
func fleetOf(a *broker.Authority) string {
	if a == nil {
		return ""
	}
	name, err := a.Fleet()
	if err != nil {
		return ""
	}
	return name
}

// known is what is known of a server that may not have a record yet.
func (c *controller) known(server string) account.Known {
	report, _, _ := c.reports.Agent(server)
	r, _ := c.store.Servers.Get(server)
	return account.Known{
		Host: report.Host, Disks: report.Disks, Launched: r.Cutover != nil || !r.Finalized.IsZero() || r.Lifecycle == protocol.Disconnected,
		Staged: len(r.Volumes) > 0 && !slices.ContainsFunc(r.Volumes, func(v protocol.StagingVolume) bool { return v.Volume == "" }),
	}
}

// run starts everything in order: records, then answers, then work; and ends it all with ctx.
func (c *controller) run(ctx context.Context, ready func(protocol.Bus)) error {
	group, ctx := errgroup.WithContext(ctx)
	endpoints := c.endpoints()
	for i := range endpoints {
		endpoints[i] = endpoints[i].Only(c.term.Check)
	}
	group.Go(func() error { return c.store.Run(ctx) })
	group.Go(func() error {
		if err := c.store.WaitReady(ctx); err != nil {
			return ended(ctx, err)
		}
		if err := c.desk.Revoke(); err != nil {
			return ended(ctx, err)
		}
		if err := bus.Serve(ctx, c.nc, c.logger, "controller", endpoints...); err != nil {
			return ended(ctx, err)
		}
		group.Go(func() error { return ended(ctx, c.runner.Run(ctx)) })
		group.Go(func() error { return ended(ctx, c.reconcile(ctx)) })
		group.Go(func() error { return ended(ctx, c.events.Run(ctx)) })
		group.Go(func() error { return ended(ctx, c.webhooks.Run(ctx)) })
		c.logger.Info("controller ready", "bus", c.bus.Servers)
		if ready != nil {
			ready(c.bus)
		}
		return nil
	})
	err := group.Wait()
	for _, e := range endpoints {
		e.Wait()
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// ended leaves out the errors that only say that ctx has ended.
func ended(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// streams is the bus as staging sees it.
type streams struct {
	js        jetstream.JetStream
	authority *broker.Authority
	bus       protocol.Bus
	may       func() error // says that streams may be changed, or why not
}

func (s *streams) EnsureStream(ctx context.Context, server, generation string, maxBytes int64) error {
	if err := s.may(); err != nil {
		return err
	}
	return bus.EnsureStream(ctx, s.js, server, generation, maxBytes)
}

func (s *streams) DeleteStream(ctx context.Context, server, generation string) error {
	if err := s.may(); err != nil {
		return err
	}
	return bus.DeleteStream(ctx, s.js, server, generation)
}

func (s *streams) UserData(_ context.Context, name string) (protocol.ReplicaServerUserData, error) {
	data := protocol.ReplicaServerUserData{Name: name, Bus: s.bus}
	if s.authority == nil {
		return data, &protocol.Problem{
			Code: protocol.ProblemNotAllowed, Message: "this controller cannot make an identity for replication server " + name + ": it does not run the bus",
			Hint: "use the embedded bus",
		}
	}
	var err error
	data.Token, _, err = s.authority.Token(protocol.RoleReplicaServer, name, time.Hour)
	return data, err
}
