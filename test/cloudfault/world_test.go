package cloudfault

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/controller"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/cloud"
	"rehost/localcloud"
	"rehost/localcloud/cloudtest"
	"rehost/protocol"
)

const (
	server  = "web-1"
	patient = 8 * time.Minute // for one stage of the migration
	// sourceAddress is of the local cloud's subnets, so that a launch can keep it.
	sourceAddress = "127.77.41.7"
)

// TestMain lets the test binary be the program of a process image.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "wait" {
		time.Sleep(time.Hour)
		return
	}
	os.Exit(m.Run())
}

// world is a bus, a local cloud with faults, the driver, a controller, and loops that speak the
// protocol as an agent and replication servers do. No block of data moves.
type world struct {
	t        *testing.T
	bus      *broker.Server
	config   cloud.Config
	cloud    *theatre
	operator *nats.Conn

	mu   sync.Mutex
	held *protocol.PointMark // what the replica stands still at
	met  map[string]int      // troubles by kind and action
}

func newWorld(t *testing.T, faults localcloud.Faults, recorder *recorder) *world {
	t.Helper()
	w := &world{t: t, bus: bustest.Start(t), met: map[string]int{}}
	w.operator = bustest.Connect(t, w.bus, protocol.RoleOperator, "test")
	info := w.startCloud(faults)
	w.config = cloud.Config{
		Endpoint: info.Endpoint, Region: info.Region, CredentialsFile: info.CredentialsFile, Poll: 200 * time.Millisecond,
		MaxBackoff: 200 * time.Millisecond, HTTPClient: recorder.client(),
	}
	w.cloud = &theatre{Client: w.driver(), userData: map[string][]byte{}, stopped: map[string]bool{}, booted: w.replicaServer}
	return w
}

// driver opens a driver, which nobody has throttled yet.
func (w *world) driver() *cloud.Client {
	w.t.Helper()
	client, err := cloud.Open(w.t.Context(), w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}

func (w *world) startCloud(faults localcloud.Faults) localcloud.Info {
	w.t.Helper()
	cfg := localcloud.Default()
	cfg.Dir, cfg.Listen, cfg.PoolSizeBytes, cfg.StopGrace, cfg.Faults = w.t.TempDir(), "127.0.0.1:0", 400<<20, time.Second, faults
	for _, name := range []string{"rehost-replicaserver", "rehost-convert"} {
		cfg.Images = append(cfg.Images, localcloud.Image{Name: name, Program: []string{os.Args[0], "wait"}})
	}
	info, _ := cloudtest.Start(w.t, cfg, hclog.Warn, func(action, kind string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.met[kind]++
		w.met[kind+" "+action]++
	})
	return info
}

// controller starts the controller over the theatre.
func (w *world) controller() {
	ctx, cancel := context.WithCancel(context.Background())
	external := bustest.Context(w.t, w.bus, protocol.RoleController, "main")
	cfg := controller.Config{External: &external, Alone: true, Timing: controller.Timing{
		Tick: 50 * time.Millisecond, Poll: 50 * time.Millisecond, Retry: 100 * time.Millisecond, AgentLost: 10 * time.Second,
	}}
	log := hclog.New(&hclog.LoggerOptions{Output: w.t.Output(), Level: hclog.Info})
	ended, ready := make(chan error, 1), make(chan struct{})
	go func() {
		ended <- controller.Run(ctx, cfg, controller.Deps{
			Logger: log, Cloud: w.cloud, Authority: w.bus.Authority(), Ready: func(protocol.Bus) { close(ready) },
		})
	}()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("controller: %v", err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		w.t.Fatalf("controller: %v", err)
	}
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
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

// agent is in sync as soon as it is ordered to replicate, and takes every point at once.
func (w *world) agent() {
	nc := bustest.Connect(w.t, w.bus, protocol.RoleAgent, server)
	report := protocol.AgentReport{
		Server: server, Host: protocol.Host{BootMode: "bios", Address: sourceAddress},
		Disks: []protocol.DiskReport{{Name: "/dev/sda", Boot: true, SizeBytes: 1 << 30}, {Name: "/dev/sdb", SizeBytes: 1 << 30}},
	}
	w.loop(func(ctx context.Context) bool {
		report.At = time.Now()
		order, err := request[protocol.AgentReport, protocol.AgentOrder](ctx, nc, protocol.AgentReportSubject(server), report)
		if err != nil {
			return ctx.Err() == nil
		}
		switch order.Wanted {
		case protocol.WantDisconnect:
			report.Replication = protocol.ReplicationDisconnected
			return true
		case protocol.WantReplicate:
			report.Generation, report.Replication, report.Sent = order.Generation, protocol.ReplicationContinuous, 1
		case protocol.WantNothing, protocol.WantPause, protocol.WantStop:
		}
		report.Fenced = order.Fence
		p := order.Point
		if p == nil || slices.ContainsFunc(report.Points, func(r protocol.PointReport) bool { return r.ID == p.ID }) {
			return true
		}
		report.Points = append(report.Points, protocol.PointReport{ID: p.ID, State: protocol.PointSent})
		w.mu.Lock()
		w.held = &protocol.PointMark{ID: p.ID, Grade: protocol.GradeFilesystem, Taken: time.Now(), Fenced: report.Fenced}
		w.mu.Unlock()
		return true
	})
}

// replicaServer speaks for a replication server as long as its instance lives.
func (w *world) replicaServer(instance string, userData []byte) {
	var data protocol.ReplicaServerUserData
	if err := json.Unmarshal(userData, &data); err != nil {
		w.t.Errorf("user data of the replication server: %v", err)
		return
	}
	var nc *nats.Conn
	report := protocol.ReplicaReport{Name: data.Name, Instance: instance}
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
		order, err := request[protocol.ReplicaReport, protocol.ReplicaOrder](ctx, nc, protocol.ReplicaReportSubject(data.Name), report)
		if err != nil {
			return ctx.Err() == nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		report.Replicas = nil
		for _, a := range order.Replicas {
			s := protocol.ReplicaStatus{Server: a.Server, Generation: a.Generation}
			if w.held != nil && slices.Contains(a.Released, w.held.ID) {
				w.held = nil
			}
			s.Held = w.held
			report.Replicas = append(report.Replicas, s)
		}
		return true
	})
}

// request asks once, with little patience.
func request[Req, Reply any](ctx context.Context, nc *nats.Conn, subject string, req Req) (Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return bus.Request[Req, Reply](ctx, nc, subject, req)
}

// ask asks the controller as an operator, until it is there to answer.
func ask[Req, Reply any](w *world, verb protocol.Verb, req Req) (reply Reply) {
	w.t.Helper()
	var err error
	for range 50 {
		reply, err = request[Req, Reply](w.t.Context(), w.operator, protocol.OperatorSubject(verb, "test"), req)
		if _, told := errors.AsType[*protocol.Problem](err); err == nil || told {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", verb, err)
	}
	return reply
}

func (w *world) status() protocol.Status {
	w.t.Helper()
	return ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
}

func (w *world) await(what string, fn func(protocol.Status) bool) {
	w.t.Helper()
	deadline := time.Now().Add(patient)
	for {
		s := w.status()
		if fn(s) {
			return
		}
		if time.Now().After(deadline) {
			text, err := json.MarshalIndent(s, "", " ")
			w.t.Fatalf("waited for %s in vain; the status is %s (%v)", what, text, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (w *world) awaitState(want protocol.Lifecycle) {
	w.t.Helper()
	began := time.Now()
	w.await(string(want), func(s protocol.Status) bool { return len(s.Servers) == 1 && s.Servers[0].Record.Lifecycle == want })
	w.t.Logf("%s after %s", want, time.Since(began).Round(time.Second))
}

// run runs a job of the wave to its end, which must be a good one.
func (w *world) run(kind protocol.JobKind) {
	w.t.Helper()
	began := time.Now()
	job := w.end(kind)
	if len(job.Servers) != 1 || job.Servers[0].Status != protocol.StepSucceeded {
		text, err := json.MarshalIndent(job, "", " ")
		w.t.Fatalf("job %s: %s (%v)", job.ID, text, err)
	}
	w.t.Logf("%s done after %s", kind, time.Since(began).Round(time.Second))
}

// end runs a job of the wave to its end, whatever it is.
func (w *world) end(kind protocol.JobKind) protocol.Job {
	w.t.Helper()
	job := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: kind})
	w.await("job "+job.ID, func(protocol.Status) bool {
		job = ask[protocol.JobRequest, protocol.Job](w, protocol.VerbJob, protocol.JobRequest{ID: job.ID})
		return job.Status.Ended()
	})
	return job
}
