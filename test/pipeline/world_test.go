// Package pipeline runs the agent and the replication server against a real bus, with files for disks and for volumes
// and a tracker without a kernel, and compares both sides at points.
package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/agent"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/hint"
	"rehost/protocol"
	"rehost/replicaserver"
)

const (
	serverName  = "web-1"
	replicaName = "staging-1"
	generation  = "g1"
	granule     = 16 << 10
)

// world is a controller, the bus, a source and volumes.
type world struct {
	tb      testing.TB
	dir     string
	bus     *broker.Server
	nc      *nats.Conn
	js      jetstream.JetStream
	log     hclog.Logger
	source  *source
	volumes []string
	hooks   agent.Hooks
	window  int64
	boot    string // id of the source's boot
	free    func() [][]agent.Range

	mu       sync.Mutex
	wanted   protocol.Wanted
	point    *protocol.PointOrder
	released []string
	gen      string
	virgin   bool
	agent    protocol.AgentReport
	replica  protocol.ReplicaReport
	fence    bool
	verify   *protocol.VerifyOrder
	limit    int64           // bytes per second
	after    func(id string) // runs while a point is held
}

// source is disks that are files, a tracker of what Write wrote, and a freezer that stops Write.
type source struct {
	mu     sync.RWMutex // held while frozen
	disks  []*os.File
	sizes  []int64
	marks  [][]uint64
	taint  atomic.Uint64
	copies func()        // runs while frozen
	before func()        // runs before
	broken atomic.Bool   // reads fail
	blind  bool          // nothing is marked
	writes atomic.Uint64 // so far
}

func (s *source) Drain(disk int, keep func(word int, bits uint64)) int {
	n := 0
	for i := range s.marks[disk] {
		for {
			w := atomic.LoadUint64(&s.marks[disk][i])
			if w == 0 {
				break
			}
			keep(i, w)
			if atomic.CompareAndSwapUint64(&s.marks[disk][i], w, 0) {
				n++
				break
			}
		}
	}
	return n
}

func (s *source) Taint() (uint64, string) { return s.taint.Load(), "by the test" }

func (s *source) Prove(context.Context) error { return nil }

func (s *source) Sync(context.Context) error { return nil }

func (s *source) Freeze(context.Context, time.Duration) (agent.Still, error) {
	if s.before != nil {
		s.before()
	}
	s.mu.Lock()
	if s.copies != nil {
		s.copies()
	}
	return agent.Still{Grade: protocol.GradeFilesystem}, nil
}

func (s *source) Thaw() (time.Duration, error) { s.mu.Unlock(); return 0, nil }

// Write writes and then marks, as a disk does.
func (s *source) Write(disk int, b []byte, offset int64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, err := s.disks[disk].WriteAt(b, offset)
	s.writes.Add(1)
	if s.blind {
		return err
	}
	for g := offset / granule; g <= (offset+int64(len(b))-1)/granule; g++ {
		atomic.OrUint64(&s.marks[disk][g/64], 1<<(g%64))
	}
	return err
}

type reader struct {
	s *source
	f *os.File
}

func (r reader) ReadAt(b []byte, offset int64) (int, error) {
	if r.s.broken.Load() {
		return 0, errors.New("medium error")
	}
	return r.f.ReadAt(b, offset)
}

func newWorld(tb testing.TB, sizes ...int64) *world {
	tb.Helper()
	return newWorldOn(tb, bustest.Start(tb), sizes...)
}

func newWorldOn(tb testing.TB, on *broker.Server, sizes ...int64) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), bus: on, wanted: protocol.WantReplicate, gen: generation, virgin: true}
	level := hclog.Warn
	if testing.Verbose() {
		level = hclog.Debug
	}
	w.log = hclog.New(&hclog.LoggerOptions{Output: tb.Output(), Level: level})
	w.nc = bustest.Connect(tb, w.bus, protocol.RoleController, "test")
	var err error
	if w.js, err = jetstream.New(w.nc); err != nil {
		tb.Fatal(err)
	}
	w.ensureStream()
	w.source = newSource(tb, w.dir, "disk", sizes...)
	for i := range sizes {
		w.volumes = append(w.volumes, fmt.Sprintf("vol-%017x", i+1))
		w.newVolume(i)
	}
	w.serve()
	return w
}

// newSource makes empty disks.
func newSource(tb testing.TB, dir, name string, sizes ...int64) *source {
	tb.Helper()
	s := &source{}
	for i, size := range sizes {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%s%d", name, i)))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			if err := f.Close(); err != nil {
				tb.Error(err)
			}
		})
		if err := f.Truncate(size); err != nil {
			tb.Fatal(err)
		}
		s.disks = append(s.disks, f)
		s.sizes = append(s.sizes, size)
		s.marks = append(s.marks, make([]uint64, (size/granule+64)/64))
	}
	return s
}

func (w *world) ensureStream() {
	w.tb.Helper()
	if err := bus.EnsureStream(w.tb.Context(), w.js, serverName, w.gen, 256<<20); err != nil {
		w.tb.Fatal(err)
	}
}

func (w *world) volumePath(i int) string {
	return filepath.Join(w.dir, "nvme-Amazon_Elastic_Block_Store_vol"+w.volumes[i][4:])
}

func (w *world) newVolume(i int) {
	w.tb.Helper()
	f, err := os.Create(w.volumePath(i))
	if err == nil {
		err = errors.Join(f.Truncate(w.source.sizes[i]), f.Close())
	}
	if err != nil {
		w.tb.Fatal(err)
	}
}

// serve answers reports as the controller does.
func (w *world) serve() {
	w.tb.Helper()
	err := bus.Serve(w.tb.Context(), w.nc, w.log, "controller",
		bus.Handle("agent", protocol.AgentReportSubject("*"), func(_ context.Context, r protocol.AgentReport) (protocol.AgentOrder, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.agent = r
			return protocol.AgentOrder{Wanted: w.wanted, Generation: w.gen, Point: w.point, Fence: w.fence, Verify: w.verify, Bandwidth: w.limit}, nil
		}),
		bus.Handle("replica", protocol.ReplicaReportSubject("*"), func(_ context.Context, r protocol.ReplicaReport) (protocol.ReplicaOrder, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.replica = r
			a := protocol.ReplicaAssignment{Server: serverName, Generation: w.gen, Stream: protocol.StreamName(serverName, w.gen), Released: slices.Clone(w.released)}
			for i, id := range w.volumes {
				a.Disks = append(a.Disks, protocol.ReplicaVolume{Volume: id, SizeBytes: w.source.sizes[i], Virgin: w.virgin})
			}
			return protocol.ReplicaOrder{Replicas: []protocol.ReplicaAssignment{a}}, nil
		}),
		bus.Handle("enrol", protocol.EnrolSubject, func(_ context.Context, r protocol.EnrolRequest) (protocol.EnrolReply, error) {
			jwt, _, err := w.bus.Authority().Enrol(r)
			return protocol.EnrolReply{JWT: jwt}, err
		}),
	)
	if err != nil {
		w.tb.Fatal(err)
	}
}

// process is a role that runs until it is stopped.
type process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set when done is closed
}

func (p *process) stop() error { p.cancel(); <-p.done; return p.err }

func (w *world) run(fn func(ctx context.Context) error) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if p.err = fn(ctx); p.err != nil && ctx.Err() == nil {
			w.tb.Errorf("a role ended: %v (%s)", p.err, hint.Of(p.err))
		}
	}()
	w.tb.Cleanup(func() {
		cancel()
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			w.tb.Error("a role does not end")
		}
	})
	return p
}

func (w *world) token(role, name string) string {
	w.tb.Helper()
	token, _, err := w.bus.Authority().Token(role, name, time.Hour)
	if err != nil {
		w.tb.Fatal(err)
	}
	return token
}

func (w *world) agentConfig() agent.Config {
	token := filepath.Join(w.dir, "token")
	if err := os.WriteFile(token, []byte(w.token(protocol.RoleAgent, serverName)), 0o600); err != nil {
		w.tb.Fatal(err)
	}
	return agent.Config{
		Server: serverName, Bus: w.bus.Bus(), TokenFile: token,
		StateDir: filepath.Join(w.dir, "state"), RunDir: filepath.Join(w.dir, "run"), Disks: []string{"fake"},
		Freeze: agent.Freeze{Budget: 2 * time.Second}, Hooks: w.hooks, Window: w.window,
	}
}

// startHostAgent starts an agent that tracks real disks.
func (w *world) startHostAgent(change func(*agent.Config)) *process {
	cfg := w.agentConfig()
	change(&cfg)
	return w.run(func(ctx context.Context) error { return agent.Run(ctx, cfg, agent.Deps{Logger: w.log.Named("agent")}) })
}

func (w *world) startAgent(resumed bool) *process {
	return w.startAgentOf(w.agentConfig(), w.source, "boot"+w.boot, resumed)
}

// startClone starts a second agent with the same identity on the world's source of now.
func (w *world) startClone() *process {
	cfg := w.agentConfig()
	cfg.RunDir = filepath.Join(w.dir, "clone-run")
	return w.startAgentOf(cfg, w.source, "clone", false)
}

func (w *world) startAgentOf(cfg agent.Config, source *source, boot string, resumed bool) *process {
	return w.run(func(ctx context.Context) error {
		return agent.Run(ctx, cfg, agent.Deps{Logger: w.log.Named("agent"), Open: func(context.Context, agent.Config, hclog.Logger) (*agent.Source, error) {
			s := &agent.Source{Host: protocol.Host{BootID: boot}, Tier: "fake", Resumed: resumed, Tracker: source, Freezer: source, Close: func(bool) error { return nil }}
			for i, f := range source.disks {
				s.Disks = append(s.Disks, agent.SourceDisk{Name: f.Name(), Identity: f.Name(), SizeBytes: source.sizes[i], GranuleBytes: granule, Reader: reader{source, f}})
			}
			s.Periodic, s.Writes = source.blind, func() (uint64, error) { return source.writes.Load(), nil }
			if w.free != nil {
				s.Free = func(context.Context) ([][]agent.Range, error) { return w.free(), nil }
			}
			return s, nil
		}})
	})
}

func (w *world) replicaConfig(metadata string) replicaserver.Config {
	return replicaserver.Config{Metadata: metadata, ByID: w.dir, WorkDir: filepath.Join(w.dir, "work")}
}

func (w *world) startReplica() *process {
	user, err := json.Marshal(protocol.ReplicaServerUserData{Name: replicaName, Bus: w.bus.Bus(), Token: w.token(protocol.RoleReplicaServer, replicaName)})
	if err != nil {
		w.tb.Fatal(err)
	}
	mux := http.NewServeMux()
	answer := func(text string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && r.Header.Get("X-aws-ec2-metadata-token") != "t" {
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
			if _, err := rw.Write([]byte(text)); err != nil {
				w.tb.Error(err)
			}
		}
	}
	mux.Handle("PUT /latest/api/token", answer("t"))
	mux.Handle("GET /latest/user-data", answer(string(user)))
	mux.Handle("GET /latest/meta-data/instance-id", answer("i-1"))
	imds := httptest.NewServer(mux)
	w.tb.Cleanup(imds.Close)
	cfg := w.replicaConfig(imds.URL)
	return w.run(func(ctx context.Context) error {
		return replicaserver.Run(ctx, cfg, replicaserver.Deps{Logger: w.log.Named("replica")})
	})
}

// await waits for a condition on the latest reports.
func (w *world) await(what string, ok func(a protocol.AgentReport, r protocol.ReplicaStatus) bool) {
	w.tb.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		w.mu.Lock()
		a, r := w.agent, protocol.ReplicaStatus{}
		if len(w.replica.Replicas) > 0 {
			r = w.replica.Replicas[0]
		}
		good := ok(a, r)
		w.mu.Unlock()
		if good {
			return
		}
		if time.Now().After(deadline) {
			w.tb.Fatalf("no %s\nagent: %+v\nreplica: %+v", what, a, r)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *world) awaitContinuous() {
	w.tb.Helper()
	w.await("continuous replication", func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationContinuous
	})
}

// fill writes random runs: noise, text and zeros.
func (w *world) fill(rng *rand.Rand, writes int) {
	for range writes {
		disk := rng.IntN(len(w.source.disks))
		b := make([]byte, (1+rng.IntN(16))*4096)
		switch rng.IntN(4) {
		case 0:
		case 1:
			for i := range b {
				b[i] = byte(i / 512)
			}
		default:
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
		}
		offset := rng.Int64N(w.source.sizes[disk]-int64(len(b))) &^ 4095
		if err := w.source.Write(disk, b, offset); err != nil {
			w.tb.Error(err)
		}
	}
}

// takePoint orders a point and, when the replica holds it, returns after check compared both sides. It returns false
// when the agent says that the point failed.
func (w *world) takePoint(id string) bool {
	w.tb.Helper()
	var want [][]byte
	take := func() {
		want = nil
		for _, f := range w.source.disks {
			b, err := os.ReadFile(f.Name())
			if err != nil {
				w.tb.Error(err)
			}
			want = append(want, b)
		}
	}
	w.source.mu.Lock()
	w.source.copies = take
	w.source.mu.Unlock()
	if w.source.blind {
		take() // nothing is frozen
	}
	w.mu.Lock()
	w.point = &protocol.PointOrder{ID: id}
	w.mu.Unlock()
	poke(w)
	failed := false
	w.await("point "+id, func(a protocol.AgentReport, r protocol.ReplicaStatus) bool {
		for _, p := range a.Points {
			if p.ID == id && p.State == protocol.PointFailed {
				failed = true
				w.tb.Logf("point %s: %s", id, p.Problem.Message)
			}
		}
		return failed || r.Held != nil && r.Held.ID == id
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.point = nil
	if len(w.replica.Replicas) > 0 && w.replica.Replicas[0].Held != nil {
		held := w.replica.Replicas[0].Held
		if held.ID == id {
			w.compare(id, want)
			failed = false
			if w.after != nil {
				w.after(id)
			}
		}
		w.released = append(w.released, held.ID)
	}
	return !failed
}

func poke(w *world) {
	if err := w.nc.Publish(protocol.PokeSubject(serverName), nil); err != nil {
		w.tb.Error(err)
	}
}

func (w *world) compare(what string, want [][]byte) {
	w.tb.Helper()
	for i := range want {
		got, err := os.ReadFile(w.volumePath(i))
		if err != nil {
			w.tb.Fatal(err)
		}
		different, zero := 0, 0
		first := -1
		for at := 0; at < len(want[i]); at += 4096 {
			if !slices.Equal(got[at:at+4096], want[i][at:at+4096]) {
				different++
				if len(bytes.Trim(got[at:at+4096], "\x00")) == 0 {
					zero++
				}
				if first < 0 {
					first = at
				}
			}
		}
		if different > 0 {
			w.tb.Fatalf("%s: disk %d and its volume differ in %d blocks, %d of them zeros on the volume, first at %d", what, i, different, zero, first)
		}
	}
}
