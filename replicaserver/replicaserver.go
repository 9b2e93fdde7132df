// Package replicaserver is the role that keeps replicas: it runs in the staging subnet, takes the frames of the servers
// that the controller assigned to it, and writes them to the attached volumes. It creates no cloud resource and has no
// cloud credentials; everything that it must remember is in the checkpoints on the bus.
package replicaserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/internal/lock"
	"rehost/internal/version"
	"rehost/protocol"
	"rehost/replicaserver/internal/apply"
	"rehost/replicaserver/internal/volume"
)

const (
	reportEvery = time.Second
	// lockPatience is how long a process waits for its predecessor to end.
	lockPatience = 10 * time.Second
)

// Config says where a replication server finds what it needs.
type Config struct {
	// Metadata is the address of the instance's metadata service; empty: EC2's.
	Metadata string
	// ByID is the folder with links to the attached volumes; empty: /dev/disk/by-id.
	ByID string
	// WorkDir keeps the identity.
	WorkDir string
}

// Defaults of [Config].
const (
	DefaultMetadata = "http://169.254.169.254"
	DefaultByID     = "/dev/disk/by-id"
	DefaultWorkDir  = "/var/lib/rehost-replicaserver"
)

// Deps is what a replication server works with.
type Deps struct {
	Logger hclog.Logger
	// Notify tells the service manager a state such as "READY=1"; may be nil.
	Notify func(state string)
	// OpenVolume opens a volume; nil: [OpenVolume].
	OpenVolume func(byID, id string, virgin bool) (Volume, error)
}

// Volume is an open volume; see package apply.
type Volume interface {
	apply.Target
	// Virgin says that nothing was written to the volume when it was opened, ever.
	Virgin() bool
	Close() error
}

// OpenVolume opens an attached volume by its id under the folder byID. virgin says that it has never been written to.
func OpenVolume(byID, id string, virgin bool) (Volume, error) { return volume.Open(byID, id, virgin) }

// server is a running replication server.
type server struct {
	cfg      Config
	log      hclog.Logger
	notify   func(string)
	open     func(byID, id string, virgin bool) (Volume, error)
	name     string
	instance string
	nc       *nats.Conn
	js       jetstream.JetStream
	changed  chan struct{}

	mu      sync.Mutex // guards the fields beneath
	workers map[string]*worker
}

// WithDefaults fills in what is not set.
func (c Config) WithDefaults() Config {
	if c.Metadata == "" {
		c.Metadata = DefaultMetadata
	}
	if c.ByID == "" {
		c.ByID = DefaultByID
	}
	if c.WorkDir == "" {
		c.WorkDir = DefaultWorkDir
	}
	return c
}

// Run keeps replicas until ctx ends; then each is flushed and its checkpoint is written.
func Run(ctx context.Context, cfg Config, deps Deps) (err error) {
	cfg = cfg.WithDefaults()
	release, err := lock.Take(ctx, filepath.Join(cfg.WorkDir, "lock"), lockPatience)
	if err != nil {
		return fmt.Errorf("be the only replication server here: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	user, instance, err := userData(ctx, cfg.Metadata)
	if err != nil {
		return err
	}
	identity, err := enrol(ctx, cfg, user)
	if err != nil {
		return err
	}
	nc, err := bus.Connect(ctx, bus.Context{Bus: user.Bus, Identity: identity}, deps.Logger.Named("bus"))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("prepare jetstream: %w", err)
	}
	s := &server{
		cfg: cfg, log: deps.Logger, notify: deps.Notify, open: deps.OpenVolume, name: user.Name, instance: instance, nc: nc, js: js,
		changed: make(chan struct{}, 1), workers: map[string]*worker{},
	}
	if s.notify == nil {
		s.notify = func(string) {}
	}
	if s.open == nil {
		s.open = OpenVolume
	}
	return s.run(ctx)
}

// Check says whether a replication server could run here: user data, identity, bus.
func Check(ctx context.Context, cfg Config, log hclog.Logger) error {
	cfg = cfg.WithDefaults()
	user, _, err := userData(ctx, cfg.Metadata)
	if err != nil {
		return err
	}
	if _, err := os.ReadDir(cfg.ByID); err != nil {
		return hint.Wrap(fmt.Errorf("look for volumes: %w", err), "set REHOST_BY_ID to the folder with the volumes' links")
	}
	identity, err := enrol(ctx, cfg, user)
	if err != nil {
		return err
	}
	nc, err := bus.Connect(ctx, bus.Context{Bus: user.Bus, Identity: identity}, log)
	if err != nil {
		return err
	}
	nc.Close()
	return nil
}

// enrol returns the identity of an earlier run, or changes the token into one.
func enrol(ctx context.Context, cfg Config, user protocol.ReplicaServerUserData) (bus.Identity, error) {
	path := filepath.Join(cfg.WorkDir, "identity.json")
	identity, err := bus.LoadIdentity(path)
	if err == nil && identity.Name == user.Name {
		return identity, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return bus.Identity{}, fmt.Errorf("read identity: %w", err)
	}
	if err := os.MkdirAll(cfg.WorkDir, 0o700); err != nil {
		return bus.Identity{}, fmt.Errorf("make the working folder: %w", err)
	}
	identity, err = bus.Enrol(ctx, user.Bus, user.Token, protocol.RoleReplicaServer, user.Name)
	if err != nil {
		return bus.Identity{}, err
	}
	return identity, bus.SaveIdentity(path, identity)
}

func (s *server) run(ctx context.Context) error {
	poke := make(chan *nats.Msg, 1)
	sub, err := s.nc.ChanSubscribe(protocol.ReplicaPokeSubject(s.name), poke)
	if err != nil {
		return fmt.Errorf("listen to the controller: %w", err)
	}
	defer sub.Unsubscribe() //nolint:errcheck // the connection is closed next
	s.notify("READY=1")
	s.log.Info("replication server runs", "name", s.name, "instance", s.instance, "version", version.String())
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	silent := false
	for {
		order, err := s.report(ctx)
		switch {
		case err == nil:
			silent = false
			s.follow(ctx, order)
		case ctx.Err() != nil:
		case !silent:
			silent = true // replicas go on without the controller
			s.log.Warn("controller does not answer", "error", err)
		}
		select {
		case <-ticker.C:
		case <-s.changed:
		case <-poke:
		case <-ctx.Done():
			s.notify("STOPPING=1")
			s.follow(context.WithoutCancel(ctx), protocol.ReplicaOrder{})
			return nil
		}
	}
}

func (s *server) report(ctx context.Context) (protocol.ReplicaOrder, error) {
	r := protocol.ReplicaReport{Name: s.name, Version: version.String(), Instance: s.instance, At: time.Now()}
	s.mu.Lock()
	for _, w := range s.workers {
		r.Replicas = append(r.Replicas, w.status())
	}
	s.mu.Unlock()
	s.notify(fmt.Sprintf("STATUS=%d replicas", len(r.Replicas)))
	ctx, cancel := context.WithTimeout(ctx, 3*reportEvery)
	defer cancel()
	return bus.Request[protocol.ReplicaReport, protocol.ReplicaOrder](ctx, s.nc, protocol.ReplicaReportSubject(s.name), r)
}

// follow starts and stops replicas until they are what the order says.
func (s *server) follow(ctx context.Context, order protocol.ReplicaOrder) {
	wanted := map[string]protocol.ReplicaAssignment{}
	for _, a := range order.Replicas {
		wanted[a.Server] = a
	}
	s.mu.Lock()
	var ended []*worker
	for name, w := range s.workers {
		if a, ok := wanted[name]; !ok || !w.same(a) {
			ended = append(ended, w)
			delete(s.workers, name)
		}
	}
	s.mu.Unlock()
	for _, w := range ended {
		w.stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, a := range wanted {
		w, ok := s.workers[name]
		if !ok {
			w = s.start(ctx, a)
			s.workers[name] = w
		}
		w.release(a.Released)
	}
}

// poke makes the next report come now.
func (s *server) poke() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
