// Package barrier runs three agents and a replication server against a real bus, with files for disks and volumes. The
// sources send each other numbered tokens, so that a cut across all of them which is not consistent shows.
package barrier

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
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
	"rehost/internal/barrier"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
	"rehost/replicaserver"
)

const (
	generation  = "g1"
	replicaName = "staging-1"
	granule     = 16 << 10
	slot        = 16
	budget      = time.Second
	limit       = 2 * time.Second // the agent's cap
)

// source is one disk that is a file, a tracker of what Write wrote, and a freezer that stops Write.
type source struct {
	file   *os.File
	marks  []uint64
	broken atomic.Bool // it cannot freeze

	mu      sync.RWMutex // held while frozen
	frozen  bool         // this and what follows belong to the agent's goroutine that takes points
	since   time.Time
	longest atomic.Int64
	freezes atomic.Int64
}

func (s *source) Drain(_ int, keep func(word int, bits uint64)) int {
	n := 0
	for i := range s.marks {
		for w := atomic.LoadUint64(&s.marks[i]); w != 0; w = atomic.LoadUint64(&s.marks[i]) {
			keep(i, w)
			if atomic.CompareAndSwapUint64(&s.marks[i], w, 0) {
				n++
				break
			}
		}
	}
	return n
}

func (*source) Taint() (uint64, string)     { return 0, "" }
func (*source) Prove(context.Context) error { return nil }
func (*source) Sync(context.Context) error  { return nil }

func (s *source) Freeze(context.Context, time.Duration) (agent.Still, error) {
	if s.broken.Load() {
		return agent.Still{}, errors.New("the filesystem is frozen by someone else")
	}
	s.mu.Lock()
	s.frozen, s.since = true, time.Now()
	s.freezes.Add(1)
	return agent.Still{Grade: protocol.GradeFilesystem}, nil
}

func (s *source) Thaw() (time.Duration, error) {
	if !s.frozen {
		return 0, nil
	}
	s.frozen = false
	held := time.Since(s.since)
	s.longest.Store(max(s.longest.Load(), int64(held)))
	s.mu.Unlock()
	return held, nil
}

// Write writes and then marks, as a disk does.
func (s *source) Write(b []byte, offset int64) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, err := s.file.WriteAt(b, offset)
	for g := offset / granule; g <= (offset+int64(len(b))-1)/granule; g++ {
		atomic.OrUint64(&s.marks[g/64], 1<<(g%64))
	}
	return err
}

// world is a controller, the bus, sources and their volumes.
type world struct {
	t       *testing.T
	servers []string
	region  int64 // bytes for the tokens that one server has sent to, or received from, one other
	dir     string
	bus     *broker.Server
	nc      *nats.Conn
	log     hclog.Logger
	sources map[string]*source
	// arrive stands before the barrier: false swallows the request.
	arrive func(server string, r protocol.BarrierRequest) bool
	// answer stands behind it.
	answer func(server string, r protocol.BarrierRequest) bool

	mu       sync.Mutex
	order    *protocol.PointOrder
	released map[string][]string
	agents   map[string]protocol.AgentReport
	replica  map[string]protocol.ReplicaStatus
	stop     map[string]func()
}

// newWorld has three servers.
func newWorld(t *testing.T) *world {
	t.Helper()
	return worldOf(t, []string{"app-1", "app-2", "db-1"}, 4<<20)
}

func worldOf(t *testing.T, servers []string, region int64) *world {
	t.Helper()
	w := &world{
		t: t, servers: servers, region: region, dir: t.TempDir(), bus: bustest.Start(t), sources: map[string]*source{}, released: map[string][]string{},
		agents: map[string]protocol.AgentReport{}, replica: map[string]protocol.ReplicaStatus{}, stop: map[string]func(){},
	}
	level := hclog.Error
	if testing.Verbose() {
		level = hclog.Info
	}
	w.log = hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: level})
	w.nc = bustest.Connect(t, w.bus, protocol.RoleController, "test")
	js, err := jetstream.New(w.nc)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range w.servers {
		if err := bus.EnsureStream(t.Context(), js, name, generation, 128<<20); err != nil {
			t.Fatal(err)
		}
		s := &source{file: w.create(name + ".disk"), marks: make([]uint64, w.diskSize()/granule/64+1)}
		w.sources[name] = s
		w.create(filepath.Base(w.volume(i)))
	}
	w.serve()
	w.startReplica()
	for _, name := range w.servers {
		w.startAgent(name)
	}
	w.await("continuous replication", func() bool {
		return !slices.ContainsFunc(w.servers, func(s string) bool { return w.agents[s].Replication != protocol.ReplicationContinuous })
	})
	return w
}

func (w *world) diskSize() int64 { return int64(2*len(w.servers)) * w.region }

func volumeID(i int) string { return fmt.Sprintf("vol-%017x", i+1) }

func (w *world) volume(i int) string {
	return filepath.Join(w.dir, "nvme-Amazon_Elastic_Block_Store_vol"+volumeID(i)[4:])
}

func (w *world) create(name string) *os.File {
	w.t.Helper()
	f, err := os.Create(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = f.Close() })
	if err := f.Truncate(w.diskSize()); err != nil {
		w.t.Fatal(err)
	}
	return f
}

// serve answers as the controller does.
func (w *world) serve() {
	w.t.Helper()
	rendezvous := barrier.New(func(_, point string) ([]string, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.order == nil || w.order.ID != point {
			return nil, errors.New("point " + point + " is not wanted")
		}
		return w.servers, nil
	})
	err := bus.Serve(w.t.Context(), w.nc, w.log, "controller",
		bus.Handle("agent", protocol.AgentReportSubject("*"), func(_ context.Context, r protocol.AgentReport) (protocol.AgentOrder, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.agents[r.Server] = r
			return protocol.AgentOrder{Wanted: protocol.WantReplicate, Generation: generation, Point: w.order}, nil
		}),
		bus.Handle("replica", protocol.ReplicaReportSubject("*"), func(_ context.Context, r protocol.ReplicaReport) (protocol.ReplicaOrder, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, s := range r.Replicas {
				w.replica[s.Server] = s
			}
			var o protocol.ReplicaOrder
			for i, name := range w.servers {
				o.Replicas = append(o.Replicas, protocol.ReplicaAssignment{
					Server: name, Generation: generation, Stream: protocol.StreamName(name, generation), Released: slices.Clone(w.released[name]),
					Disks: []protocol.ReplicaVolume{{Volume: volumeID(i), SizeBytes: w.diskSize(), Virgin: true}},
				})
			}
			return o, nil
		}),
		bus.HandleLater("barrier", protocol.BarrierSubject("*"), func(ctx context.Context, r protocol.BarrierRequest, reply func(protocol.BarrierReply)) {
			name := bus.Sender(ctx)
			w.mu.Lock()
			arrive, answer := w.arrive, w.answer
			w.mu.Unlock()
			if arrive != nil && !arrive(name, r) {
				return
			}
			rendezvous.Arrive(name, r, func(p *protocol.Problem) {
				if answer == nil || answer(name, r) {
					reply(protocol.BarrierReply{Problem: p})
				}
			})
		}),
		bus.Handle("enrol", protocol.EnrolSubject, func(_ context.Context, r protocol.EnrolRequest) (protocol.EnrolReply, error) {
			jwt, _, err := w.bus.Authority().Enrol(r)
			return protocol.EnrolReply{JWT: jwt}, err
		}),
	)
	if err != nil {
		w.t.Fatal(err)
	}
}

// run runs a role until stop or the end of the test.
func (w *world) run(name string, fn func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := fn(ctx); err != nil && ctx.Err() == nil {
			w.t.Errorf("%s ended: %v", name, err)
		}
	}()
	stop := func() { cancel(); <-done }
	w.mu.Lock()
	w.stop[name] = stop
	w.mu.Unlock()
	w.t.Cleanup(stop)
}

func (w *world) token(role, name string) string {
	w.t.Helper()
	token, _, err := w.bus.Authority().Token(role, name, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

func (w *world) startAgent(name string) {
	w.t.Helper()
	file := filepath.Join(w.dir, name+".token")
	if err := os.WriteFile(file, []byte(w.token(protocol.RoleAgent, name)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	cfg := agent.Config{
		Server: name, Bus: w.bus.Bus(), TokenFile: file, StateDir: filepath.Join(w.dir, name), RunDir: filepath.Join(w.dir, "run"),
		Disks: []string{"fake"}, Freeze: agent.Freeze{Budget: budget, Cap: limit},
	}
	s := w.sources[name]
	open := func(context.Context, agent.Config, hclog.Logger) (*agent.Source, error) {
		return &agent.Source{
			Host: protocol.Host{BootID: "boot"}, Tier: "fake", Resumed: true, Tracker: s, Freezer: s, Close: func(bool) error { return nil },
			Disks: []agent.SourceDisk{{Name: "fake", Identity: name, SizeBytes: w.diskSize(), GranuleBytes: granule, Reader: s.file}},
		}, nil
	}
	w.run(name, func(ctx context.Context) error {
		return agent.Run(ctx, cfg, agent.Deps{Logger: w.log.Named(name), Open: open})
	})
}

func (w *world) startReplica() {
	w.t.Helper()
	user, err := json.Marshal(protocol.ReplicaServerUserData{Name: replicaName, Bus: w.bus.Bus(), Token: w.token(protocol.RoleReplicaServer, replicaName)})
	if err != nil {
		w.t.Fatal(err)
	}
	imds := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		text := map[string]string{"/latest/api/token": "t", "/latest/user-data": string(user), "/latest/meta-data/instance-id": "i-1"}[r.URL.Path]
		if _, err := rw.Write([]byte(text)); err != nil {
			w.t.Error(err)
		}
	}))
	w.t.Cleanup(imds.Close)
	cfg := replicaserver.Config{Metadata: imds.URL, ByID: w.dir, WorkDir: filepath.Join(w.dir, "work")}
	w.run(replicaName, func(ctx context.Context) error {
		return replicaserver.Run(ctx, cfg, replicaserver.Deps{Logger: w.log.Named("replica")})
	})
}

// await waits for a condition on the latest reports; ok is called with mu held.
func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		good := ok()
		w.mu.Unlock()
		if good {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("no %s: %+v", what, w.agents)
		}
	}
}

// failedLocked returns why an agent gave a point up.
func (w *world) failedLocked(name, id string) *protocol.Problem {
	for _, p := range w.agents[name].Points {
		if p.ID == id && p.State == protocol.PointFailed {
			return p.Problem
		}
	}
	return nil
}

func (w *world) heldLocked(name, id string) bool {
	held := w.replica[name].Held
	return held != nil && held.ID == id
}

// orderPoint orders a point of all servers: together, or each for itself.
func (w *world) orderPoint(id string, together bool) {
	w.t.Helper()
	o := &protocol.PointOrder{ID: id}
	if together {
		o.Group, o.Members = "shop", len(w.servers)
	}
	w.mu.Lock()
	w.order = o
	w.mu.Unlock()
	for _, name := range w.servers {
		if err := w.nc.Publish(protocol.PokeSubject(name), nil); err != nil {
			w.t.Fatal(err)
		}
	}
}

// takePoint orders a point and calls look while all replicas stand still at it. It returns false when one agent gave it up.
func (w *world) takePoint(id string, together bool, look func()) bool {
	w.t.Helper()
	w.orderPoint(id, together)
	good := true
	w.await("end of point "+id, func() bool {
		good = true
		for _, name := range w.servers {
			if p := w.failedLocked(name, id); p != nil {
				w.t.Logf("point %s of %s: %s", id, name, p.Message)
				good = false
			} else if !w.heldLocked(name, id) {
				return false
			}
		}
		return true
	})
	if good {
		look()
	}
	w.release(id)
	return good
}

func (w *world) release(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.order = nil
	for _, name := range w.servers {
		w.released[name] = append(w.released[name], id)
	}
	if err := w.nc.Publish(protocol.ReplicaPokeSubject(replicaName), nil); err != nil {
		w.t.Error(err)
	}
}

// Where a server keeps the tokens that it sent to a peer, and those that it received from one.
func (w *world) sentAt(peer int) int64     { return int64(peer) * w.region }
func (w *world) receivedAt(peer int) int64 { return int64(len(w.servers)+peer) * w.region }

func tokenBytes(from, to, n int) []byte {
	b := make([]byte, slot)
	binary.LittleEndian.PutUint64(b, uint64(n))
	b[8], b[9], b[15] = byte(from), byte(to), 1
	return b
}

// chatter lets every server send tokens to every other one, each written down before it is sent and when it has come,
// until the test ends.
func (w *world) chatter() {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	// As many tokens a second in all, however many links there are.
	pause := time.Duration(len(w.servers)*(len(w.servers)-1)) * 35 * time.Microsecond
	for from := range w.servers {
		for to := range w.servers {
			if from == to {
				continue
			}
			link := make(chan int, 16)
			all.Go(func() {
				defer close(link)
				for n := 1; int64(n) < w.region/slot && ctx.Err() == nil; n++ {
					if err := w.sources[w.servers[from]].Write(tokenBytes(from, to, n), w.sentAt(to)+int64(n)*slot); err != nil {
						w.t.Error(err)
						return
					}
					link <- n
					time.Sleep(pause)
				}
			})
			all.Go(func() {
				for n := range link {
					if err := w.sources[w.servers[to]].Write(tokenBytes(from, to, n), w.receivedAt(from)+int64(n)*slot); err != nil {
						w.t.Error(err)
					}
				}
			})
		}
	}
	w.t.Cleanup(func() { cancel(); all.Wait() })
}

// strays counts the tokens that a volume has as received, and the sender's volume does not have as sent.
func (w *world) strays() (strays, tokens int) {
	w.t.Helper()
	var images [][]byte
	for i := range w.servers {
		b, err := os.ReadFile(w.volume(i))
		if err != nil {
			w.t.Fatal(err)
		}
		images = append(images, b)
	}
	for from := range w.servers {
		for to := range w.servers {
			for n := int64(1); n < w.region/slot; n++ {
				got := images[to][w.receivedAt(from)+n*slot:][:slot]
				if got[15] == 0 {
					continue
				}
				tokens++
				if !slices.Equal(got, images[from][w.sentAt(to)+n*slot:][:slot]) || !slices.Equal(got, tokenBytes(from, to, int(n))) {
					strays++
				}
			}
		}
	}
	return strays, tokens
}

// wantThawed holds the promise that nobody stands still for longer than the cap.
func (w *world) wantThawed() {
	w.t.Helper()
	for _, name := range w.servers {
		s := w.sources[name]
		done := make(chan error, 1)
		go func() { done <- s.Write(make([]byte, slot), 0) }()
		select {
		case err := <-done:
			if err != nil {
				w.t.Error(err)
			}
		case <-time.After(limit):
			w.t.Errorf("%s is still frozen", name)
		}
		if held := time.Duration(s.longest.Load()); held > limit {
			w.t.Errorf("%s stood still for %s", name, held)
		}
	}
}
