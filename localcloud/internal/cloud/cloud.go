// Package cloud has the verbs of the local cloud: what a call does to the
// remembered state, to the files behind volumes, and to instances. It knows
// nothing of how a call looks on the wire. A file exists before the state names
// it and is removed after the state forgot it, so a crash leaves at worst a file
// that the next start removes.
package cloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/pool"
	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/instance"
	"rehost/localcloud/internal/state"
)

const (
	// terminatedStays is how long a terminated instance is still described, as in EC2.
	terminatedStays = time.Hour
	// tokenStays is how long a client token is remembered, as in EC2.
	tokenStays = 24 * time.Hour
	// tidyEvery is how often what is over is forgotten.
	tidyEvery = time.Minute
	// reserve is the room in the pool that no new volume or snapshot may use up:
	// running instances need it to write.
	reserve = 64 << 20
)

// Settings are what a Cloud works with.
type Settings struct {
	// Dir is the data folder.
	Dir             string
	Region, Account string
	Store           *state.Store
	Pool            *pool.Pool
	Host            *instance.Host
	// Outbound lets guests out, as far as their security groups do.
	Outbound bool
	// StopGrace is how long an instance may take to end when asked.
	StopGrace time.Duration
	// StateDelay is how long things stay in the states on the way, such as pending.
	StateDelay time.Duration
	Quotas     Quotas
	// KMSKeys are the keys on offer, by id or alias. Without any, every well-formed name is one.
	KMSKeys []string
	Log     hclog.Logger
}

// Cloud is the local cloud. Run must be running for instances to run.
type Cloud struct {
	Settings
	// ops orders the calls that change files and state together. Waiting for an
	// instance happens outside of it.
	ops sync.Mutex
	// uploads is held by who writes blocks of a snapshot, and wholly by who ends that.
	uploads sync.RWMutex

	mu     sync.Mutex // guards active
	active map[string]*control

	launch chan launch
	done   chan struct{} // closed when Run takes no more launches
}

// launch hands an instance to Run.
type launch struct {
	id string
	k  *control
}

// New returns a cloud. It has no effects.
func New(s Settings) *Cloud {
	return &Cloud{Settings: s, active: map[string]*control{}, launch: make(chan launch), done: make(chan struct{})}
}

// Run brings back the instances that should run, supervises all instances until
// ctx is done, then stops them and returns when nothing of them is left.
func (c *Cloud) Run(ctx context.Context) {
	var wg sync.WaitGroup
	start := func(l launch) { wg.Go(func() { c.supervise(ctx, l.id, l.k) }) }
	for id, in := range c.Store.View().Instances {
		if !wanted(in) {
			continue
		}
		if k, err := c.claim(ctx, id); err == nil {
			start(launch{id, k})
		}
	}
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	for {
		select {
		case l := <-c.launch:
			start(l)
		case <-tick.C:
			if err := errors.Join(c.Store.Update(tidy), c.sweepInstances()); err != nil {
				c.Log.Warn("old records stay", "error", err)
			}
		case <-ctx.Done():
			close(c.done)
			wg.Wait()
			return
		}
	}
}

// Prepare makes the folders, forgets what is over, and removes files that the state does not name.
func (c *Cloud) Prepare() error {
	for _, dir := range []string{c.path("volumes"), c.path("snapshots"), filepath.Join(c.Dir, "instances"), filepath.Join(c.Dir, "uploads")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("prepare data folder: %w", err)
		}
	}
	err := c.Store.Update(func(st *state.State) error {
		c.ensureDefaultGroup(st)
		return tidy(st)
	})
	if err != nil {
		return err
	}
	st := c.Store.View()
	return errors.Join(
		sweep(c.path("volumes"), func(id string) bool { return st.Volumes[id] != nil }),
		sweep(c.path("snapshots"), func(id string) bool { return st.Snapshots[id] != nil }),
		sweep(filepath.Join(c.Dir, "uploads"), func(id string) bool { return st.Snapshots[id] != nil && st.Snapshots[id].Open }),
		c.sweepInstances(),
	)
}

// sweepInstances removes the folders of instances that nobody remembers.
func (c *Cloud) sweepInstances() error {
	// One that is being made has its folder before its record.
	c.ops.Lock()
	defer c.ops.Unlock()
	st := c.Store.View()
	return sweep(filepath.Join(c.Dir, "instances"), func(id string) bool { return st.Instances[id] != nil })
}

// wanted reports whether a supervisor is needed after a start: for what should
// run, and for what was on its way down.
func wanted(in *state.Instance) bool {
	return in.Phase != state.Stopped && in.Phase != state.Terminated
}

func tidy(st *state.State) error {
	now := time.Now()
	for id, in := range st.Instances {
		if in.Phase == state.Terminated && now.Sub(in.Ended) > terminatedStays {
			delete(st.Instances, id)
			delete(st.Tags, id)
		}
	}
	for key, t := range st.Tokens {
		if now.Sub(t.At) > tokenStays {
			delete(st.Tokens, key)
		}
	}
	return nil
}

func sweep(dir string, known func(id string) bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, e := range entries {
		if !known(strings.TrimSuffix(e.Name(), ".raw")) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return fmt.Errorf("sweep: %w", err)
			}
		}
	}
	return nil
}

func (c *Cloud) path(parts ...string) string {
	return filepath.Join(append([]string{c.Pool.Root()}, parts...)...)
}

// VolumePath is the raw file of a volume.
func (c *Cloud) VolumePath(id string) string { return c.path("volumes", id+".raw") }

// SnapshotPath is the raw file of a snapshot.
func (c *Cloud) SnapshotPath(id string) string { return c.path("snapshots", id+".raw") }

func (c *Cloud) instanceDir(id string) string { return filepath.Join(c.Dir, "instances", id) }

// stableID is an id that depends on nothing but the names given.
func stableID(prefix string, names ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return prefix + "-" + hex.EncodeToString(sum[:])[:17]
}

// replayed looks up a client token: the id that it created, "" when it is new,
// an error when it was used for another request.
func replayed(st *state.State, action, token, digest string) (string, error) {
	t, ok := st.Tokens[action+" "+token]
	switch {
	case token == "" || !ok:
		return "", nil
	case t.Digest != digest:
		return "", fault.New("IdempotentParameterMismatch", "The client token '%s' was used with other parameters", token)
	}
	return t.ID, nil
}

func remember(st *state.State, action, token, digest, id string) {
	if token != "" {
		st.Tokens[action+" "+token] = state.Token{Digest: digest, ID: id, At: time.Now()}
	}
}

// room refuses what could fill the pool, before data is at risk. XFS gives the
// room of a deleted file back a moment later, so a full pool is looked at again.
func (c *Cloud) room() error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for again := 10; ; again-- {
		free, err := c.Pool.Free()
		if err != nil || free >= reserve {
			return err
		}
		if again == 0 {
			return fault.New("InsufficientVolumeCapacity", "The pool %s has %d MiB left: delete snapshots and volumes that nobody needs", c.Pool.Root(), free>>20)
		}
		<-tick.C
	}
}
