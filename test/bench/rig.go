package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/internal/bus"
	"rehost/protocol"
)

const (
	serverName  = "bench"
	replicaName = "staging"
	generation  = "g1"
	volumeID    = "vol-00000000000000001"
)

// rig is our programs as processes, with a controller that only answers their reports.
type rig struct {
	cleanup
	env    *env
	link   *link
	dir    string
	disk   string // of the source
	size   int64  // bytes
	wanted protocol.Wanted
	tier   string // of the tracker; empty: as the agent chooses

	facts   brokerFacts
	nc      *nats.Conn
	agent   *process
	broker  *process
	replica *process

	mu       sync.Mutex // guards what is beneath
	report   protocol.AgentReport
	status   protocol.ReplicaReport
	point    *protocol.PointOrder
	released []string
	onReport func(protocol.AgentReport) // may be nil
}

// newRig starts the bus and the replication server for a disk, in an empty folder. The agent is started by startAgent.
func newRig(ctx context.Context, e *env, l *link, disk string, size int64) (r *rig, err error) {
	r = &rig{env: e, link: l, disk: disk, size: size, wanted: protocol.WantReplicate, dir: filepath.Join(e.work, "rig")}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.clean())
		}
	}()
	r.later(func() error { return os.RemoveAll(r.dir) })
	if err := errors.Join(os.RemoveAll(r.dir), os.MkdirAll(filepath.Join(r.dir, "by-id"), 0o700)); err != nil {
		return r, err
	}
	if err := r.startBroker(ctx); err != nil {
		return r, err
	}
	if err := r.serve(ctx); err != nil {
		return r, err
	}
	if err := sparseFile(r.volume(), size); err != nil {
		return r, err
	}
	return r, r.startReplica(ctx)
}

// volume is where the replication server finds the volume.
func (r *rig) volume() string {
	return filepath.Join(r.dir, "by-id", "nvme-Amazon_Elastic_Block_Store_"+strings.ReplaceAll(volumeID, "-", ""))
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) startBroker(ctx context.Context) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close() //nolint:errcheck // read to its first line
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.broker, err = start("broker", r.path("broker.log"), nil, write, nil, self, brokerRole, r.path("bus"), r.link.staging+":0")
	_ = write.Close() // the child has its own
	if err != nil {
		return err
	}
	r.later(r.broker.stop)
	if err := read.SetReadDeadline(time.Now().Add(soonLimit)); err != nil {
		return err
	}
	line, err := bufio.NewReader(read).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the broker does not answer: %w: %s", err, tail(r.path("broker.log")))
	}
	if err := json.Unmarshal(line, &r.facts); err != nil {
		return err
	}
	r.nc, err = bus.Connect(ctx, bus.Context{Bus: r.facts.Bus, Identity: r.facts.Controller}, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	r.later(func() error { r.nc.Close(); return nil })
	return nil
}

// serve answers reports as the controller does.
func (r *rig) serve(ctx context.Context) error {
	return bus.Serve(ctx, r.nc, hclog.NewNullLogger(), "controller",
		bus.Handle("agent", protocol.AgentReportSubject("*"), func(_ context.Context, a protocol.AgentReport) (protocol.AgentOrder, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.report = a
			if r.onReport != nil {
				r.onReport(a)
			}
			return protocol.AgentOrder{Wanted: r.wanted, Generation: generation, Point: r.point}, nil
		}),
		bus.Handle("replica", protocol.ReplicaReportSubject("*"), func(_ context.Context, s protocol.ReplicaReport) (protocol.ReplicaOrder, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.status = s
			return protocol.ReplicaOrder{Replicas: []protocol.ReplicaAssignment{{
				Server: serverName, Generation: generation, Stream: protocol.StreamName(serverName, generation), Released: slices.Clone(r.released),
				Disks: []protocol.ReplicaVolume{{Volume: volumeID, SizeBytes: r.size, Virgin: true}},
			}}}, nil
		}),
	)
}

// startReplica starts the replication server and waits until it has the replica.
func (r *rig) startReplica(ctx context.Context) error {
	user, err := json.Marshal(protocol.ReplicaServerUserData{Name: replicaName, Bus: r.facts.Bus, Token: r.facts.Replica})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for path, text := range map[string]string{"PUT /latest/api/token": "t", "GET /latest/user-data": string(user), "GET /latest/meta-data/instance-id": "i-1"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
	}
	metadata := httptest.NewServer(mux)
	r.later(func() error { metadata.Close(); return nil })
	r.replica, err = start("replication server", r.path("replica.log"), nil, nil,
		[]string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + metadata.URL, "REHOST_BY_ID=" + r.path("by-id")},
		filepath.Join(r.env.bin, "rehost-replicaserver"), "run", "--work-dir", r.path("replica"))
	if err != nil {
		return err
	}
	r.later(r.replica.stop)
	return r.await(ctx, "replica", soonLimit, func(_ protocol.AgentReport, s protocol.ReplicaStatus) bool { return s.Server == serverName })
}

// startAgent starts the agent, which does nothing to the disk that is not also taken back by clean.
func (r *rig) startAgent(ctx context.Context) (err error) {
	pins := r.path("bpf")
	if err := mountBPF(ctx, &r.cleanup, pins); err != nil {
		return err
	}
	config := fmt.Sprintf("server = %q\ndisks = [%q]\nbus {\n  servers = [%q]\n  ca_file = %q\n}\ntoken_file = %q\nstate_dir = %q\nrun_dir = %q\npin_dir = %q\n",
		serverName, r.disk, r.facts.Bus.Servers[0], r.path("ca.pem"), r.path("token"), r.path("state"), r.path("run"), filepath.Join(pins, "rehost"))
	if r.tier != "" {
		config += fmt.Sprintf("tracker = %q\n", r.tier)
	}
	for name, text := range map[string]string{"agent.hcl": config, "ca.pem": r.facts.Bus.CA, "token": r.facts.Agent} {
		if err := os.WriteFile(r.path(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	agent := filepath.Join(r.env.bin, "rehost-agent")
	r.agent, err = start("agent", r.path("agent.log"), nil, nil, nil, r.link.onSource(agent, "run", "--config", r.path("agent.hcl"))...)
	if err != nil {
		return err
	}
	r.later(r.agent.stop)
	return nil
}

// await waits for a condition on the latest reports, and fails at once when a process of ours ends.
func (r *rig) await(ctx context.Context, what string, limit time.Duration, ok func(a protocol.AgentReport, s protocol.ReplicaStatus) bool) error {
	deadline := time.Now().Add(limit)
	for {
		r.mu.Lock()
		a, s := r.report, protocol.ReplicaStatus{}
		if len(r.status.Replicas) > 0 {
			s = r.status.Replicas[0]
		}
		r.mu.Unlock()
		if ok(a, s) {
			return nil
		}
		for _, p := range []*process{r.broker, r.replica, r.agent} {
			if p != nil {
				if err := p.alive(); err != nil {
					return err
				}
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s after %s\nagent: %+v\nreplica: %+v", what, limit, a, s)
		}
		if err := pause(ctx, poll/4); err != nil {
			return err
		}
	}
}

// awaitContinuous waits until everything is on the volume, flushed.
func (r *rig) awaitContinuous(ctx context.Context, limit time.Duration) error {
	return r.await(ctx, "continuous replication", limit, func(a protocol.AgentReport, _ protocol.ReplicaStatus) bool {
		return a.Replication == protocol.ReplicationContinuous && len(a.Disks) > 0 && a.Disks[0].Need == 0 && a.Disks[0].Pending == 0
	})
}

// poke makes the agent report now.
func (r *rig) poke() error { return r.nc.Publish(protocol.PokeSubject(serverName), nil) }
