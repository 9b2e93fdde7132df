package stamp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/agent"
	"rehost/internal/bus"
	"rehost/internal/jsonfile"
	"rehost/protocol"
	"rehost/replicaserver"
)

const (
	poolBytes = 6 << 30 // sparse
	// volumesBytes is what the volumes may take: more than they need, little enough to be filled.
	volumesBytes = 1 << 30
	// budget is how long the writers may stand still. It is generous: here the disks share two cores with everything else.
	budget = 2 * time.Second
)

// World is the source with its writers, the roles, and the controller's end.
type World struct {
	TB      testing.TB
	Seed    uint64
	Disks   []*Disk
	Gate    Gate
	Agent   *Process
	Replica *Process
	Broker  *Process
	// Check compares what the replica holds with the source's frozen copy, which is in a folder; nil: byte by byte.
	Check func(frozen string)
	// BrokerDir and VolumesDir are for faults.
	BrokerDir, VolumesDir string
	*controller

	dir, pool string
	pause     time.Duration // of the writers
	forget    func() error
}

// ForgetMarks takes from the source what a reboot takes: the tracker's marks and the granules' states. No agent may run.
func (w *World) ForgetMarks() error { return w.forget() }

// Options are what differs between worlds.
type Options struct {
	Seed uint64
	Rate int    // of the writers, as a multiple of the usual; 0: 1
	Tier string // of the tracker; empty: chosen by probing
	// Volatile gives the replication server volumes that lose what was not flushed when it is killed.
	Volatile bool
	// SkipFree leaves out what the filesystems do not use. Then the replica need not be equal byte by byte.
	SkipFree bool
	// Before runs when the disks are mounted and nothing replicates them yet.
	Before func(w *World)
}

// New makes disks and volumes and starts the roles. Everything ends with the test.
func New(tb testing.TB, o Options) *World {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root")
	}
	dir := tb.TempDir()
	w := &World{
		TB: tb, Seed: o.Seed, pause: usualPause / time.Duration(max(o.Rate, 1)), dir: dir, pool: filepath.Join(dir, "pool"), BrokerDir: filepath.Join(dir, "bus"), VolumesDir: filepath.Join(dir, "volumes"),
	}
	mountImage(tb, filepath.Join(dir, "pool.img"), w.pool, "xfs", poolBytes)
	mountImage(tb, filepath.Join(dir, "volumes.img"), w.VolumesDir, "ext4", volumesBytes)
	w.Disks = openDisks(tb, w.pool, filepath.Join(dir, "mnt"))
	for i, d := range w.Disks {
		sparse(tb, w.VolumePath(i), d.Bytes)
	}
	hello := w.startBroker()
	w.controller = newController(tb, bus.Context{Bus: hello.Bus, Identity: hello.Controller}, w.Disks)
	w.prepareAgent(o, hello)
	w.prepareReplica(o, hello)
	if o.Before != nil {
		o.Before(w)
	}
	w.Replica.Start()
	w.Agent.Start()
	return w
}

// VolumePath is where a disk's volume is, under the name that EC2 gives it.
func (w *World) VolumePath(disk int) string {
	return filepath.Join(w.VolumesDir, "nvme-Amazon_Elastic_Block_Store_vol"+volumeID(disk)[4:])
}

func volumeID(disk int) string { return fmt.Sprintf("vol-%017x", disk+1) }

func (w *World) config(role string, cfg any) (path string) {
	w.TB.Helper()
	path = filepath.Join(w.dir, role+".json")
	if err := jsonfile.Write(path, cfg); err != nil {
		w.TB.Fatal(err)
	}
	return path
}

func (w *World) startBroker() welcome {
	w.TB.Helper()
	cfg := brokerConfig{Dir: w.BrokerDir, Address: freeAddress(w.TB), Hello: filepath.Join(w.dir, "hello.json")}
	w.Broker = newProcess(w.TB, w.dir, "broker", w.config("broker", cfg))
	w.Broker.Start()
	var hello welcome
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(poll) {
		if err := jsonfile.Read(cfg.Hello, &hello); err == nil {
			return hello
		} else if time.Now().After(deadline) {
			w.TB.Fatalf("the broker does not answer: %v", err)
		}
	}
}

// freeAddress finds a port that a broker which is killed can listen on again.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was sent
	return l.Addr().String()
}

// cloneScript makes reflink copies of the disks' files, in a folder whose name says of which point and when.
const cloneScript = `d="$0/$1.$(date +%s%N)" && mkdir "$d" && exec cp --reflink=always "$0"/*.disk "$d/"`

func (w *World) prepareAgent(o Options, hello welcome) {
	w.TB.Helper()
	socket := filepath.Join(w.dir, "gate")
	var lc net.ListenConfig
	l, err := lc.Listen(w.TB.Context(), "unix", socket)
	if err != nil {
		w.TB.Fatal(err)
	}
	w.TB.Cleanup(func() { _ = l.Close() }) // nothing listens any more
	go serveGate(l, &w.Gate)
	self, err := os.Executable()
	if err != nil {
		w.TB.Fatal(err)
	}
	pins := filepath.Join(w.dir, "pins") // the agent mounts a bpffs there
	w.forget = func() error {
		err := unix.Unmount(pins, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not mounted
			err = nil
		}
		return errors.Join(err, os.RemoveAll(filepath.Join(w.dir, "run")))
	}
	w.TB.Cleanup(func() {
		if err := w.forget(); err != nil {
			w.TB.Error(err)
		}
	})
	cfg := agent.Config{
		Server: serverName, Bus: hello.Bus, StateDir: filepath.Join(w.dir, "state"), RunDir: filepath.Join(w.dir, "run"), PinDir: pins,
		Freeze:     agent.Freeze{Budget: budget, Cap: 2 * budget},
		Hooks:      agent.Hooks{PreFreeze: []string{self, "gate", socket, "shut"}, PostThaw: []string{self, "gate", socket, "open"}, Timeout: 5 * time.Second},
		FrozenHook: []string{"/bin/sh", "-c", cloneScript, w.pool}, // and the point's id
	}
	for _, d := range w.Disks {
		cfg.Disks = append(cfg.Disks, d.Device)
	}
	if !o.SkipFree {
		cfg.FreeSpace = agent.FreeSpaceCopy
	}
	cfg.Tracker = o.Tier
	w.identity(cfg.StateDir, hello.Agent)
	w.Agent = newProcess(w.TB, w.dir, "agent", w.config("agent", cfg))
}

func (w *World) identity(dir string, id bus.Identity) {
	w.TB.Helper()
	if err := errors.Join(os.MkdirAll(dir, 0o700), bus.SaveIdentity(filepath.Join(dir, "identity.json"), id)); err != nil {
		w.TB.Fatal(err)
	}
}

// prepareReplica also stands in for the metadata service of the replication server's instance.
func (w *World) prepareReplica(o Options, hello welcome) {
	w.TB.Helper()
	user, err := json.Marshal(protocol.ReplicaServerUserData{Name: replicaName, Bus: hello.Bus})
	if err != nil {
		w.TB.Fatal(err)
	}
	mux := http.NewServeMux()
	for path, text := range map[string]string{"PUT /latest/api/token": "t", "GET /latest/user-data": string(user), "GET /latest/meta-data/instance-id": "i-1"} {
		mux.HandleFunc(path, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(text)) }) // its client may be killed
	}
	metadata := httptest.NewServer(mux)
	w.TB.Cleanup(metadata.Close)
	cfg := replicaConfig{Config: replicaserver.Config{Metadata: metadata.URL, ByID: w.VolumesDir, WorkDir: filepath.Join(w.dir, "work")}, Volatile: o.Volatile}
	w.identity(cfg.Config.WorkDir, hello.Replica)
	w.Replica = newProcess(w.TB, w.dir, "replica", w.config("replica", cfg))
}

// StartWriters starts a writer on each part of each disk, until the returned function is called or the test ends.
func (w *World) StartWriters() (stop func()) {
	w.TB.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var writers sync.WaitGroup
	stream := uint64(0)
	for _, d := range w.Disks {
		for _, p := range d.Parts {
			stream++
			writer := &Writer{part: p, gate: &w.Gate, pause: w.pause, seed: w.Seed, rng: rand.New(rand.NewPCG(w.Seed, stream))}
			writers.Go(func() {
				if err := writer.Run(ctx); err != nil {
					w.TB.Error(err)
				}
			})
		}
	}
	stop = sync.OnceFunc(func() { cancel(); w.Gate.Open(); writers.Wait() })
	w.TB.Cleanup(stop)
	return stop
}
