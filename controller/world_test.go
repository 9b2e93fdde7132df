package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// lost is the silence from which on a replication server counts as missing.
const lost = 500 * time.Millisecond

// world is a bus, a cloud in memory, and loops that speak the protocol as agents and
// replication servers do. Controllers come and go in it.
type world struct {
	t        *testing.T
	bus      *broker.Server
	cloud    *memoryCloud
	operator *nats.Conn
	port     int // of the page that every target shows

	mu      sync.Mutex
	held    map[string]protocol.PointMark // by server: what its replica stands still at
	slow    string                        // its agent takes no point now
	failing int                           // points that the agent fails before one succeeds
	fences  []bool                        // what the agent was ordered, in order
	writes  map[string]int64              // by disk: bytes that the sources write per second
	mute    map[string]bool               // instances and agents that report nothing

	clinging map[string]bool     // instances that give no replica up
	holding  map[string][]string // servers whose replicas an instance has open

	findings []protocol.Finding // of the agents' surveys; nil: they make none

	brokenFence bool          // the agent's fence hook fails
	lapsing     string        // its fence ends by itself when it is to be kept
	fence       time.Duration // how long the agent may take to say that its fence is as ordered; 0: long
	taken       time.Duration // how long the cloud may take for snapshots; 0: long
	takenAgo    time.Duration // the age of points when they are taken
	read        time.Duration // how long it may take for a range of one; 0: long

	webhooks     []Webhook
	gateCommands string // the folder of the controller's commands
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, bustest.Start(t))
}

func newWorldOn(t *testing.T, on *broker.Server) *world {
	t.Helper()
	t.Parallel() // each has a bus and a cloud of its own, and waits most of the time
	w := &world{t: t, bus: on, cloud: newMemoryCloud(), held: map[string]protocol.PointMark{}, mute: map[string]bool{}, writes: map[string]int64{}, clinging: map[string]bool{}, holding: map[string][]string{}}
	w.operator = bustest.Connect(t, w.bus, protocol.RoleOperator, "test")
	page := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte("it works")) }))
	t.Cleanup(page.Close)
	u, err := url.Parse(page.URL)
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	if w.port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	w.cloud.detaching = w.detaching
	w.cloud.started = func(inst cloud.Instance, userData []byte) { w.replicaServer(inst, userData) }
	return w
}

// volumes are wishes for the volumes of the fleet.
var volumes = protocol.VolumeSettings{KMSKey: "alias/staging", IOPS: 6000, Throughput: 500, InitRate: 200}

// fleet has one server with two disks in one wave.
func (w *world) fleet() protocol.Fleet {
	return protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default", VolumeType: "gp3", Volumes: volumes}},
		Launches:     []protocol.LaunchSettings{{Name: "web", InstanceType: "t3.small", IngressPorts: []int{w.port}}},
		Checks: []protocol.CheckSettings{
			{Name: "page", Kind: "http", Port: w.port, Contains: "works", Timeout: 2 * time.Second},
			{Name: "login", Kind: "console", Contains: "login:", Timeout: 2 * time.Second},
		},
		Servers:      []protocol.ServerSettings{{Name: "web-1", Replication: "default", Launch: "web", Checks: []string{"page", "login"}, Fence: "hook"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"web-1"}}},
		Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop"}}},
	}
}

// tested brings the fleet's server to where a test of it has passed.
func (w *world) tested() {
	w.t.Helper()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	wantSucceeded(w.t, w.awaitJob(w.start(protocol.JobTest).ID))
}

// loop calls fn every few milliseconds until the test ends.
func (w *world) loop(fn func(ctx context.Context) (more bool)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for fn(ctx) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

// agent runs a source server's agent: it is in sync as soon as it is ordered to replicate.
func (w *world) agent(server string) {
	nc := bustest.Connect(w.t, w.bus, protocol.RoleAgent, server)
	report := protocol.AgentReport{
		Server: server, Host: protocol.Host{BootMode: "bios", Cores: 2, MemoryBytes: 7800 << 20, Address: "10.0.0.7"},
		Disks: []protocol.DiskReport{{Name: "/dev/sda", Boot: true, SizeBytes: 4 << 30}, {Name: "/dev/sdb", SizeBytes: 1 << 30}},
	}
	w.loop(func(ctx context.Context) bool {
		if w.muted(server) {
			return true
		}
		w.mu.Lock()
		for i := range report.Disks {
			report.Disks[i].WriteRate = w.writes[report.Disks[i].Name]
		}
		w.mu.Unlock()
		report.At = time.Now()
		order, err := request[protocol.AgentReport, protocol.AgentOrder](ctx, nc, protocol.AgentReportSubject(server), report)
		if err != nil {
			return ctx.Err() == nil
		}
		switch order.Wanted {
		case protocol.WantDisconnect:
			report.Replication = protocol.ReplicationDisconnected
			return true
		case protocol.WantStop:
			report.Generation, report.Replication = "", protocol.ReplicationStopped
		case protocol.WantPause:
			report.Replication = protocol.ReplicationPaused
		case protocol.WantReplicate:
			report.Generation, report.Replication, report.Sent = order.Generation, protocol.ReplicationContinuous, 1
		case protocol.WantNothing:
		}
		w.obey(&report, order)
		w.mu.Lock()
		if w.findings != nil && order.Survey != nil {
			report.Survey = &protocol.Survey{Order: *order.Survey, At: time.Now(), Findings: w.findings}
		}
		w.mu.Unlock()
		return true
	})
}

func (w *world) obey(report *protocol.AgentReport, order protocol.AgentOrder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	report.Problems = nil
	if order.Fence != report.Fenced && w.brokenFence {
		report.Problems = []protocol.Problem{{Code: protocol.ProblemFence, Message: "the hook failed"}}
	} else if order.Fence != report.Fenced && (!report.FenceLapsed || !order.Fence) {
		report.Fenced, report.FenceLapsed = order.Fence, false
		w.fences = append(w.fences, order.Fence)
	}
	report.FenceID = order.FenceID
	if report.Fenced && order.FenceKeep && report.Server == w.lapsing {
		report.Fenced, report.FenceLapsed = false, true
	}
	report.FenceKept = report.Fenced && order.FenceKeep
	p := order.Point
	if p == nil || report.Server == w.slow || slices.ContainsFunc(report.Points, func(r protocol.PointReport) bool { return r.ID == p.ID }) {
		return
	}
	if w.failing > 0 {
		w.failing--
		report.Points = append(report.Points, protocol.PointReport{
			ID: p.ID, State: protocol.PointFailed, Problem: &protocol.Problem{Code: protocol.ProblemFreeze, Message: "over budget"},
		})
		return
	}
	report.Points = append(report.Points, protocol.PointReport{ID: p.ID, State: protocol.PointSent})
	w.held[report.Server] = protocol.PointMark{ID: p.ID, Grade: protocol.GradeFilesystem, Taken: time.Now().Add(-w.takenAgo), Fenced: report.Fenced}
}

// replicaServer runs a replication server for as long as its instance lives.
func (w *world) replicaServer(inst cloud.Instance, userData []byte) {
	var data protocol.ReplicaServerUserData
	if err := json.Unmarshal(userData, &data); err != nil || data.Token == "" {
		w.t.Errorf("user data of the replication server: %v, %s", err, userData)
	}
	var nc *nats.Conn
	report := protocol.ReplicaReport{Name: data.Name, Instance: inst.ID}
	w.loop(func(ctx context.Context) bool {
		if nc == nil {
			id, err := bus.Enrol(ctx, data.Bus, data.Token, protocol.RoleReplicaServer, data.Name)
			if err != nil {
				return ctx.Err() == nil
			}
			if nc, err = bus.Connect(ctx, bus.Context{Bus: data.Bus, Identity: id}, hclog.NewNullLogger()); err != nil {
				w.t.Errorf("connect the replication server: %v", err)
				return false
			}
			context.AfterFunc(ctx, nc.Close)
		}
		if i, err := w.cloud.Instance(ctx, inst.ID); err != nil || !i.Alive() {
			return false
		}
		if w.muted(inst.ID) {
			return true
		}
		order, err := request[protocol.ReplicaReport, protocol.ReplicaOrder](ctx, nc, protocol.ReplicaReportSubject(data.Name), report)
		if err != nil {
			return ctx.Err() == nil
		}
		report.Replicas = w.hold(inst.ID, report.Replicas, w.replicas(order))
		return true
	})
}

// hold keeps which replicas an instance has open.
func (w *world) hold(instance string, before, now []protocol.ReplicaStatus) []protocol.ReplicaStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clinging[instance] {
		return before
	}
	w.holding[instance] = nil
	for _, s := range now {
		w.holding[instance] = append(w.holding[instance], s.Server)
	}
	return now
}

// detaching notes a volume that is taken from a replication server which lives and may still write to it.
func (w *world) detaching(v cloud.Volume) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.holding[v.Instance], v.Tags[cloud.TagServer]) {
		w.t.Errorf("volume %s is detached from %s, which has the replica open", v.ID, v.Instance)
	}
}

func (w *world) setClinging(instance string, clings bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clinging[instance] = clings
}

func (w *world) muted(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mute[name]
}

func (w *world) setMute(name string, mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute[name] = mute
}

func (w *world) replicas(order protocol.ReplicaOrder) []protocol.ReplicaStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []protocol.ReplicaStatus
	for _, a := range order.Replicas {
		s := protocol.ReplicaStatus{Server: a.Server, Generation: a.Generation}
		if mark, ok := w.held[a.Server]; ok && slices.Contains(a.Released, mark.ID) {
			delete(w.held, a.Server)
		} else if ok {
			s.Held = &mark
		}
		out = append(out, s)
	}
	return out
}

// request asks once, with little patience: a controller may just be dying.
func request[Req, Reply any](ctx context.Context, nc *nats.Conn, subject string, req Req) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	return bus.Request[Req, Reply](ctx, nc, subject, req)
}

// controller starts a controller and returns how to stop it.
func (w *world) controller(parent context.Context) (stop func()) {
	w.t.Helper()
	return w.play(parent, Config{Alone: true})
}

// play starts a controller with the world's timing, and returns how to stop it. It answers then, or stands by.
func (w *world) play(parent context.Context, cfg Config) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(parent)
	external := bustest.Context(w.t, w.bus, protocol.RoleController, "main")
	cfg.External, cfg.GateCommands, cfg.Webhooks = &external, w.gateCommands, w.webhooks
	cfg.Timing = Timing{
		Lasting: 20 * time.Millisecond, Tick: 20 * time.Millisecond, Poll: 10 * time.Millisecond, Retry: 20 * time.Millisecond, AgentLost: 3 * time.Second, ReplicaLost: lost, ReplicaRelease: 2 * time.Second, PointHeld: 10 * time.Second, PointTaken: w.taken, Fence: w.fence, SnapshotRead: w.read, WayBack: time.Second, Lease: cfg.Timing.Lease,
		Ready: 20 * time.Millisecond,
	}
	ready, ended := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(ready) })
	log := hclog.New(&hclog.LoggerOptions{Name: cfg.Name, Output: w.t.Output(), Level: hclog.Debug, DisableTime: true})
	go func() {
		ended <- Run(ctx, cfg, Deps{Logger: log, Cloud: w.cloud, Authority: w.bus.Authority(), Ready: func(protocol.Bus) { once() }, Waits: func(protocol.Lease) { once() }})
	}()
	select {
	case <-ready:
	case err := <-ended:
		if ctx.Err() == nil {
			w.t.Fatalf("the controller ended: %v", err)
		}
		ended <- err
	}
	return func() {
		cancel()
		if err := <-ended; err != nil && parent.Err() == nil {
			w.t.Errorf("the controller ended with %v", err)
		}
		ended <- nil
	}
}

// ask asks the controller as an operator, until one is there to answer.
func ask[Req, Reply any](w *world, verb protocol.Verb, req Req) (Reply, error) {
	w.t.Helper()
	var reply Reply
	var err error
	for range 1000 { // on a busy machine a controller takes seconds to start
		reply, err = request[Req, Reply](w.t.Context(), w.operator, protocol.OperatorSubject(verb, "test"), req)
		if err == nil || isProblem(err) && !dying(err) {
			return reply, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return reply, err
}

// dying says that a controller was killed while it answered: what it did nobody knows.
func dying(err error) bool { return strings.HasSuffix(err.Error(), context.Canceled.Error()) }

func (w *world) apply(f protocol.Fleet) {
	w.t.Helper()
	if _, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) server() protocol.ServerStatus {
	w.t.Helper()
	s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(s.Servers) == 0 {
		return protocol.ServerStatus{}
	}
	return s.Servers[0]
}

func (w *world) await(what string, fn func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for !fn() {
		if time.Now().After(deadline) {
			text, err := json.MarshalIndent(w.server(), "", " ")
			w.t.Fatalf("waited for %s in vain; the server is %s (%v)", what, text, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (w *world) awaitState(want protocol.Lifecycle) {
	w.t.Helper()
	w.await(string(want), func() bool { return w.server().Record.Lifecycle == want })
}

// start starts a job of the wave.
func (w *world) start(kind protocol.JobKind) protocol.Job {
	w.t.Helper()
	return w.startOf(protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: kind})
}

// awaitFences waits until the agent has got these orders about its fence, one after the other, and no other: it asks now and then.
func (w *world) awaitFences(want ...bool) {
	w.t.Helper()
	w.await(fmt.Sprintf("the fence's orders %v", want), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Equal(w.fences, want)
	})
}

// startOf starts a job. When a controller died before it could answer, the job may be there: it must not be started twice.
func (w *world) startOf(req protocol.StartRequest) (job protocol.Job) {
	w.t.Helper()
	before := w.newestJob()
	w.await("an answer to start", func() bool {
		var err error
		job, err = request[protocol.StartRequest, protocol.Job](w.t.Context(), w.operator, protocol.OperatorSubject(protocol.VerbStart, "test"), req)
		if err == nil {
			return true
		}
		if job = w.newestJob(); job.ID != before.ID {
			return true
		}
		if isProblem(err) && !dying(err) {
			w.t.Fatal(err)
		}
		return false
	})
	return job
}

// newestJob is empty when there is none.
func (w *world) newestJob() (job protocol.Job) {
	w.t.Helper()
	w.await("word of the newest job", func() bool {
		var err error
		job, err = ask[protocol.JobRequest, protocol.Job](w, protocol.VerbJob, protocol.JobRequest{})
		return err == nil || (isProblem(err) && !dying(err))
	})
	return job
}

func (w *world) awaitJob(id string) protocol.Job {
	w.t.Helper()
	var job protocol.Job
	w.await("job "+id, func() bool {
		var err error
		job, err = ask[protocol.JobRequest, protocol.Job](w, protocol.VerbJob, protocol.JobRequest{ID: id})
		return err == nil && job.Status.Ended()
	})
	return job
}
