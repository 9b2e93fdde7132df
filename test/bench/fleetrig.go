package main

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/internal/bus"
	"rehost/internal/jsonfile"
	"rehost/protocol"
)

// The processes of a fleet.
const (
	controllerProcess = "controller"
	replicaProcess    = "replication servers"
	agentsProcess     = "agents"
	cloudProcess      = "local cloud"
)

var fleetProcesses = []string{controllerProcess, replicaProcess, agentsProcess, cloudProcess}

const (
	fleetBus      = "127.0.0.1:4222"
	fleetEndpoint = "127.0.0.1:4566"
	// stagePatience is how long nothing may get further while a fleet becomes CONTINUOUS.
	stagePatience = 3 * time.Minute
	stagePoll     = 5 * time.Second
	stopPatience  = 2 * time.Minute // of the local cloud, which stops its instances
)

const fleetController = `data_dir = %q

bus {
  embedded { listen = %q }
}

cloud {
  endpoint         = "http://%s"
  region           = "local-1"
  credentials_file = %q
}
`

// fleet is a controller with its bus, a local cloud with replication servers, and one process with all agents.
type fleet struct {
	cleanup
	env                       *env
	dir                       string
	servers                   int
	staged                    time.Duration
	cloud, controller, agents *process
	nc                        *nats.Conn // of an operator
	name                      string     // of that operator
}

// newFleet starts a fleet and returns when all of its servers are CONTINUOUS.
func newFleet(ctx context.Context, e *env, servers int) (r *fleet, err error) {
	r = &fleet{env: e, servers: servers, dir: filepath.Join(e.work, "fleet")}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.clean())
		}
	}()
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return r, err
	}
	r.later(func() error { return os.RemoveAll(r.dir) })
	for _, step := range []func(context.Context) error{r.startCloud, r.startController, r.apply, r.startAgents} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	return r, r.await(ctx)
}

func (r *fleet) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// operator is the file that lets an operator's commands reach the controller.
func (r *fleet) operator() string { return r.path("controller", "operator.json") }

// startCloud starts the local cloud as the first process of a process namespace of its own, since its instances are made
// to outlive it: so they end with it, even after kill -9.
func (r *fleet) startCloud(ctx context.Context) (err error) {
	r.cloud, err = startIn(syscall.CLONE_NEWPID|syscall.CLONE_NEWNS, stopPatience, "local cloud", r.path("cloud.log"), nil, nil, nil,
		"sh", "-c", `mount -t proc proc /proc && exec "$@"`, "sh", r.env.bin+"/rehost", "localcloud", "--data", r.path("cloud"), "--listen", fleetEndpoint)
	if err != nil {
		return err
	}
	r.later(r.cloud.stop)
	return r.awaitFile(ctx, r.cloud, r.path("cloud", "credentials"))
}

func (r *fleet) startController(ctx context.Context) (err error) {
	file := r.path("controller.hcl")
	text := fmt.Sprintf(fleetController, r.path("controller"), fleetBus, fleetEndpoint, r.path("cloud", "credentials"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if r.controller, err = start("controller", r.path("controller.log"), nil, nil, nil, r.env.bin+"/rehost-controller", "run", "--config", file); err != nil {
		return err
	}
	r.later(r.controller.stop)
	if err := r.awaitFile(ctx, r.controller, r.operator()); err != nil {
		return err
	}
	at, err := bus.LoadContext(r.operator())
	if err != nil {
		return err
	}
	if r.nc, err = bus.Connect(ctx, at, hclog.NewNullLogger()); err != nil {
		return err
	}
	r.name = at.Identity.Name
	r.later(func() error { r.nc.Close(); return nil })
	return eventually(ctx, "answer of the controller", func() bool {
		_, err := bus.Request[struct{}, protocol.VersionReply](ctx, r.nc, protocol.OperatorSubject(protocol.VerbVersion, r.name), struct{}{})
		return err == nil || r.controller.alive() != nil
	})
}

func (r *fleet) awaitFile(ctx context.Context, p *process, file string) error {
	return eventually(ctx, file, func() bool {
		_, err := os.Stat(file)
		return !errors.Is(err, fs.ErrNotExist) || p.alive() != nil
	})
}

// apply applies the example of a thousand servers, cut to the size of this fleet.
func (r *fleet) apply(ctx context.Context) error {
	dir := r.path("config")
	if err := os.CopyFS(dir, os.DirFS(r.env.example)); err != nil {
		return err
	}
	inventory := filepath.Join(dir, "servers.csv")
	text, err := os.ReadFile(inventory)
	if err != nil {
		return err
	}
	lines := strings.SplitAfterN(string(text), "\n", r.servers+2)
	if len(lines) < r.servers+2 {
		return fmt.Errorf("%s has less than %d servers", inventory, r.servers)
	}
	offered := strings.NewReplacer("c6i.2xlarge", "c5.large", "m6i.large", "m5.large", "r6i.xlarge", "r5.large") // by the local cloud
	if err := os.WriteFile(inventory, []byte(offered.Replace(strings.Join(lines[:r.servers+1], ""))), 0o600); err != nil {
		return err
	}
	began := time.Now()
	out, err := exec.CommandContext(ctx, r.env.bin+"/rehost", "apply", "--yes", dir, "--context", r.operator()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("rehost apply: %w: %s", err, out)
	}
	say("  rehost apply of %d servers: %.2f s", r.servers, time.Since(began).Seconds())
	return nil
}

// startAgents makes a token for each server and starts its agent.
func (r *fleet) startAgents(ctx context.Context) error {
	f, err := os.Open(r.path("config", "servers.csv"))
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	rows, err := csv.NewReader(bufio.NewReader(f)).ReadAll()
	if err != nil {
		return err
	}
	s := simulation{Dir: r.path("agents")}
	const name, disks = 0, 4 // columns
	for _, row := range rows[1:] {
		reply, err := bus.Request[protocol.TokenRequest, protocol.TokenReply](ctx, r.nc, protocol.OperatorSubject(protocol.VerbToken, r.name), protocol.TokenRequest{Name: row[name]})
		if err != nil {
			return err
		}
		s.Bus = reply.Bus
		s.Servers = append(s.Servers, simulatedServer{Name: row[name], Token: reply.Token, Disks: strings.Fields(row[disks])})
	}
	if err := jsonfile.Write(r.path("agents.json"), s); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r.agents, err = start("agents", r.path("agents.log"), nil, nil, nil, self, agentsRole, r.path("agents.json"))
	if err == nil {
		r.later(r.agents.stop)
	}
	return err
}

// await waits until all servers are CONTINUOUS, as long as some get further.
func (r *fleet) await(ctx context.Context) error {
	began, changed, last := time.Now(), time.Now(), ""
	for {
		counts, err := r.counts(ctx)
		if err != nil {
			return err
		}
		if counts[protocol.ReplicationContinuous] == r.servers {
			r.staged = time.Since(began)
			return nil
		}
		if err := r.alive(); err != nil {
			return err
		}
		text := fmt.Sprintf("%d CONTINUOUS, %d STOPPED, %d INITIATING, %d INITIAL_SYNC", counts[protocol.ReplicationContinuous], counts[protocol.ReplicationStopped],
			counts[protocol.ReplicationInitiating], counts[protocol.ReplicationInitialSync])
		if text != last {
			changed, last = time.Now(), text
			say("  %s", text)
		}
		if time.Since(changed) > stagePatience {
			return fmt.Errorf("nothing got further for %s: %s\ncontroller: %s\nagents: %s", stagePatience, text, tail(r.controller.log), tail(r.agents.log))
		}
		if err := pause(ctx, stagePoll); err != nil {
			return err
		}
	}
}

// counts says how many servers are in each state.
func (r *fleet) counts(ctx context.Context) (map[protocol.Replication]int, error) {
	s, err := bus.Request[protocol.StatusRequest, protocol.Status](ctx, r.nc, protocol.OperatorSubject(protocol.VerbStatus, r.name), protocol.StatusRequest{})
	if err != nil {
		return nil, errors.Join(err, r.alive())
	}
	counts := map[protocol.Replication]int{}
	for _, server := range s.Servers {
		counts[server.Replication]++
	}
	return counts, nil
}

// allContinuous is an error unless all servers still are.
func (r *fleet) allContinuous(ctx context.Context) error {
	counts, err := r.counts(ctx)
	if err == nil && counts[protocol.ReplicationContinuous] != r.servers {
		err = fmt.Errorf("not all of %d servers have stayed CONTINUOUS: %v", r.servers, counts)
	}
	return err
}

func (r *fleet) alive() error {
	for _, p := range []*process{r.cloud, r.controller, r.agents} {
		if p == nil {
			continue
		}
		if err := p.alive(); err != nil {
			return err
		}
	}
	return nil
}

// usage returns what each role needs now, and has needed of CPU up to now.
func (r *fleet) usage() (map[string]usage, error) {
	all := map[string]usage{}
	for role, p := range map[string]*process{controllerProcess: r.controller, agentsProcess: r.agents, cloudProcess: r.cloud} {
		u, err := processUsage(p.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		all[role] = u
	}
	replicas, err := childrenOf(r.cloud.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	for _, pid := range replicas {
		u, err := processUsage(pid)
		if err != nil {
			return nil, fmt.Errorf("a replication server: %w", err)
		}
		all[replicaProcess] = all[replicaProcess].plus(u)
	}
	return all, nil
}
