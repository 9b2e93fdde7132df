// Package agent is the role that runs on a source host: it reports to the controller, follows its orders, and ships the
// disks' content to the bus. It listens on no port, compiles and patches nothing, and writes to no disk.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/agent/internal/ship"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/internal/lock"
	"rehost/protocol"
)

// Config is what an agent is told by its configuration file.
type Config struct {
	Server    string // the name under which the host is known
	Bus       protocol.Bus
	TokenFile string   // one-time enrolment token; read until the identity is in StateDir
	StateDir  string   // keeps the identity; empty: /var/lib/rehost
	RunDir    string   // keeps the granules' states; must end with the boot; empty: /run/rehost
	PinDir    string   // in a bpffs; empty: /sys/fs/bpf/rehost
	Disks     []string // whole disks
	Tracker   string   // auto, btf, classic or scan; empty: auto
	Hooks     Hooks
	Window    int64 // bytes that may be sent and not durable; 0: 128 MiB
	Freeze    Freeze
	Verify    Verify
	FreeSpace string // FreeSpaceCopy, or else free space is left out
	// FrozenHook runs while the filesystems are frozen. It is for tests.
	FrozenHook []string
}

// Hooks are programs of the host's owner, each an argument vector; empty: none.
type Hooks struct {
	Fence, Unfence, PreFreeze, PostThaw []string
	Timeout                             time.Duration // of each; 0: 30 s
}

// Freeze bounds a point; zeros: the defaults of package ship (250 ms, 2 s, 256 MiB).
type Freeze struct {
	Budget time.Duration // longest wanted freeze where an order does not say
	Cap    time.Duration // thawed at this age, whatever happens
	Memory int64         // bytes that may be read into memory
}

// Deps is what an agent works with.
type Deps struct {
	Logger hclog.Logger
	// Notify tells the service manager a state such as "READY=1"; may be nil.
	Notify func(state string)
	// Open opens the source; nil: the host's disks.
	Open func(ctx context.Context, cfg Config, log hclog.Logger) (*Source, error)
}

// Tracker hands over the marks of written granules; see package ship.
type Tracker = ship.Tracker

// Freezer stops the writers of the disks for a moment; see package ship.
type Freezer = ship.Freezer

// Place is a run of bytes of one of the disks; see package ship.
type Place = ship.Place

// Range is a run of bytes of a disk.
type Range = ship.Range

// Verify says how the replica is compared in the background; see package ship.
type Verify = ship.Verify

// Still says what a freezer stopped; see package ship.
type Still = ship.Still

// Source is what an agent replicates.
type Source struct {
	Host    protocol.Host
	Tier    string
	Notes   []string // of the tracker, for people
	Resumed bool     // the tracker has seen every write since the last process
	// Instance names the tracker's marks. A process that is not told to ship keeps no granules; should it make the marks
	// anew and end, then the next one resumes them, and must not take them for those that the granules' file goes with.
	Instance string
	Disks    []SourceDisk
	Tracker  Tracker
	Freezer  Freezer
	// Free says for each disk which ranges no filesystem uses; nil: everything is read. See package ship.
	Free func(ctx context.Context) ([][]Range, error)
	// Periodic says that the tracker marks nothing: everything is compared from time to time. Writes counts then what the
	// kernel wrote to the disks, in sectors.
	Periodic bool
	Writes   func() (uint64, error)
	// Scratch writes to a file of the agent's own, for a test of the tracker; see package ship.
	Scratch func() (Place, error)
	// Survey says what a conversion of the source would say; nil: there is nothing to look at.
	Survey func(ctx context.Context, options protocol.ConversionSettings) (protocol.Survey, error)
	// Check says whether the disks are still those that the source began with; nil: they are.
	Check func() error
	// Close releases the source. With forget, nothing stays behind that tracks.
	Close func(forget bool) error
}

// SourceDisk is one disk of a source.
type SourceDisk struct {
	Name         string
	Identity     string
	SizeBytes    int64
	GranuleBytes int64
	Boot         bool
	Reader       io.ReaderAt
}

// FreeSpaceCopy as [Config].FreeSpace sends also what no filesystem uses, so that the replica equals the disk byte by byte.
const FreeSpaceCopy = "copy"

// Defaults of [Config].
const (
	DefaultStateDir = "/var/lib/rehost"
	DefaultRunDir   = "/run/rehost"
	DefaultPinDir   = "/sys/fs/bpf/rehost"
	defaultHook     = 30 * time.Second
	reportEvery     = time.Second
	// lockPatience is how long a process waits for its predecessor to end.
	lockPatience = 10 * time.Second
)

// WithDefaults fills in what is not set.
func (c Config) WithDefaults() Config {
	if c.StateDir == "" {
		c.StateDir = DefaultStateDir
	}
	if c.RunDir == "" {
		c.RunDir = DefaultRunDir
	}
	if c.PinDir == "" {
		c.PinDir = DefaultPinDir
	}
	if c.Hooks.Timeout <= 0 {
		c.Hooks.Timeout = defaultHook
	}
	return c
}

// identityPath is where the agent's identity is kept.
func (c Config) identityPath() string { return filepath.Join(c.StateDir, "identity.json") }

// serverRunDir is what belongs to this server and this boot.
func (c Config) serverRunDir() string { return filepath.Join(c.RunDir, c.Server) }

// lockPath is the lock of the one agent that may run for this server here.
func (c Config) lockPath() string { return filepath.Join(c.RunDir, c.Server+".lock") }

// Run follows the controller's orders until ctx ends, or until it is told to disconnect. When ctx ends, the tracker goes
// on in the kernel, and the next Run continues where this one stopped.
func Run(ctx context.Context, cfg Config, deps Deps) (err error) {
	cfg = cfg.WithDefaults()
	// Before the tracker: two that drain it would each have a part of the marks.
	release, err := lock.Take(ctx, cfg.lockPath(), lockPatience)
	if err != nil {
		return fmt.Errorf("be the only agent of %s here: %w", cfg.Server, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	open := deps.Open
	if open == nil {
		open = openSource
	}
	source, err := open(ctx, cfg, deps.Logger)
	if err != nil {
		return err
	}
	forget := false
	defer func() { err = errors.Join(err, source.Close(forget)) }()
	// Before the bus, which may be gone: a fence must not outlast its time for that.
	fence := newFence(cfg, source.Host.BootID, deps.Logger)
	watched, endWatch := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { fence.watch(watched) })
	defer watching.Wait()
	defer endWatch()
	identity, err := Enrol(ctx, cfg)
	if err != nil {
		return err
	}
	nc, err := connect(ctx, cfg, identity, deps.Logger.Named("bus"))
	if err != nil {
		return err
	}
	defer nc.Close()
	a := newRunner(cfg, deps, source, nc, fence)
	forget, err = a.run(ctx)
	if forget {
		err = errors.Join(err, os.RemoveAll(cfg.serverRunDir()))
	}
	return err
}

// connect keeps trying: a host that boots before its network is up must not need a person.
func connect(ctx context.Context, cfg Config, identity bus.Identity, log hclog.Logger) (*nats.Conn, error) {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		nc, err := bus.Connect(ctx, bus.Context{Bus: cfg.Bus, Identity: identity}, log)
		if err == nil || ctx.Err() != nil || errors.Is(err, nats.ErrAuthorization) || len(cfg.Bus.Servers) == 0 {
			return nc, err
		}
		log.Warn("bus unreachable, trying again", "pause", pause.String(), "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Enrol returns the identity of an earlier run, or changes the token in the configured file into one and keeps it.
func Enrol(ctx context.Context, cfg Config) (bus.Identity, error) {
	cfg = cfg.WithDefaults()
	path := cfg.identityPath()
	identity, err := bus.LoadIdentity(path)
	switch {
	case err == nil && identity.Name == cfg.Server:
		return identity, nil
	case err == nil:
		return identity, hint.New(fmt.Sprintf("%s is the identity of %s, not of %s", path, identity.Name, cfg.Server),
			"correct the server's name in the configuration, or run: rehost-agent remove")
	case !errors.Is(err, fs.ErrNotExist):
		return identity, fmt.Errorf("read identity: %w", err)
	case cfg.TokenFile == "":
		return identity, hint.New("this agent has no identity and no token", "get a token with `rehost server token "+cfg.Server+"` and name its file in token_file")
	}
	token, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return identity, hint.Wrap(fmt.Errorf("read token: %w", err), "get a token with `rehost server token "+cfg.Server+"`")
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return identity, fmt.Errorf("make the state folder: %w", err)
	}
	identity, err = bus.Enrol(ctx, cfg.Bus, strings.TrimSpace(string(token)), protocol.RoleAgent, cfg.Server)
	if err != nil {
		return identity, err
	}
	return identity, bus.SaveIdentity(path, identity)
}
