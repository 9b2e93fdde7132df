package crash

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/controller"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/internal/jsonfile"
	"rehost/localcloud"
	"rehost/localcloud/cloudtest"
	"rehost/protocol"
)

// phases are the steps of a cutover that must each have met a kill.
var phases = []string{"fence", "point", "snapshot", "clone", "convert", "image", "launch", "check", "keep", "commit", "cleanup"}

// TestACutoverSurvivesKillsOfTheBroker kills the bus in each step.
func TestACutoverSurvivesKillsOfTheBroker(t *testing.T) {
	surviveParts(t, func(st *staged, _ string) bool { return st.broker.kill() })
}

// TestACutoverSurvivesKillsOfTheReplicationServer kills it in each step.
func TestACutoverSurvivesKillsOfTheReplicationServer(t *testing.T) {
	surviveParts(t, func(st *staged, _ string) bool { return st.killReplicaServer() })
}

// TestACutoverSurvivesKillsOfAgents kills one agent in each step: that of the server whose step it is.
func TestACutoverSurvivesKillsOfAgents(t *testing.T) {
	surviveParts(t, func(st *staged, server string) bool {
		return st.sources[server].agent.kill()
	})
}

// staged is a broker, agents and a replication server as they are, each in processes of their own, beside a controller that is not killed.
// Conversions convert nothing, and targets do not boot.
type staged struct {
	*world
	cloudDir string
	broker   *part
	sources  map[string]*source

	mu     sync.Mutex                // guards the fields beneath
	victim func(step, server string) // told of each step that has begun; nil: of none
}

// surviveParts cuts an application of three servers over and takes it back until kill has killed in each phase. One that has not come back
// from the kill before is killed in a later cutover.
func surviveParts(t *testing.T, kill func(st *staged, server string) bool) {
	t.Helper()
	needCrash(t)
	servers := []string{"db-1", "web-1", "web-2"}
	st := newStaged(t, servers)
	met := map[string]bool{} // guarded by st.mu while there is a victim
	victim := func(step, server string) {
		if slices.Contains(phases, step) && !met[step] {
			met[step] = kill(st, server)
		}
	}
	for try := 1; ; try++ {
		began := time.Now()
		st.setVictim(victim)
		job := st.run(protocol.JobCutover)
		st.setVictim(nil)
		maps.DeleteFunc(met, func(_ string, killed bool) bool { return !killed })
		a := job.Applications[0]
		t.Logf("cutover %d: %s %s after %s; killed so far in %v", try, a.Outcome, a.Why, time.Since(began).Round(time.Second), slices.Sorted(maps.Keys(met)))
		if a.Outcome == protocol.OutcomeCommitted {
			st.awaitAll(servers, protocol.CuttingOver)
			st.wantFenced(servers, true)
			st.wantSameBytes()
			if len(met) == len(phases) {
				break
			}
			st.run(protocol.JobRevert)
		}
		if try == 2*len(phases) { // a step may be over before it is seen
			t.Fatalf("%d cutovers, and no kill in each of %v", try, phases)
		}
		st.wantFenced(servers, false)
		st.ready(servers)
	}
	st.run(protocol.JobFinalize)
	st.wantOnlyTargets(len(servers))
}

// newStaged brings an application to where it can be cut over.
func newStaged(t *testing.T, servers []string) *staged {
	t.Helper()
	st := &staged{world: &world{t: t, dir: t.TempDir(), force: "the sources have no system"}, cloudDir: t.TempDir(), sources: map[string]*source{}}
	st.openCloud()
	st.stage = stage{Dir: filepath.Join(st.dir, "controller"), Cloud: st.cloud, Alone: true}
	st.endConversions()
	server, identities := st.enrol(servers)
	server.Close()
	st.stage.External = &bus.Context{Bus: st.bus, Identity: identities[protocol.RoleController]}
	st.startBroker()
	st.startController()
	st.operator = st.connect(identities[protocol.RoleOperator])
	for _, name := range servers {
		st.sources[name] = newSource(st.world, name, identities[name])
	}
	st.follow()
	if _, err := ask[protocol.ApplyRequest, protocol.Plan](st.world, protocol.VerbApply, protocol.ApplyRequest{Fleet: fleet(servers)}); err != nil {
		t.Fatal(err)
	}
	st.awaitAll(servers, protocol.ReadyForTest)
	st.ready(servers)
	return st
}

// ready brings servers that replicate, and whose writers go on, to where they can be cut over.
func (st *staged) ready(servers []string) {
	st.t.Helper()
	st.wantWriting()
	var status protocol.Status
	st.await("replication", func() bool {
		var err error
		status, err = ask[protocol.StatusRequest, protocol.Status](st.world, protocol.VerbStatus, protocol.StatusRequest{Servers: servers})
		return err == nil && !slices.ContainsFunc(status.Servers, func(s protocol.ServerStatus) bool { return s.Replication != protocol.ReplicationContinuous })
	})
	for _, s := range status.Servers {
		if s.Record.Lifecycle == protocol.ReadyForCutover {
			continue
		}
		req := protocol.ChangeRequest{Selection: protocol.Selection{Servers: []string{s.Record.Name}}, Action: protocol.ActionReady, Reason: "tested by hand"}
		if _, err := ask[protocol.ChangeRequest, []protocol.Changed](st.world, protocol.VerbChange, req); err != nil {
			st.t.Fatal(err)
		}
	}
	st.awaitAll(servers, protocol.ReadyForCutover)
}

func (st *staged) openCloud() {
	st.t.Helper()
	cfg := localcloud.Default()
	cfg.Dir, cfg.Listen, cfg.PoolSizeBytes, cfg.StopGrace = st.cloudDir, "127.0.0.1:0", 800<<20, time.Second
	for name, play := range map[string]string{"rehost-replicaserver": "staging", "rehost-convert": "convert"} {
		cfg.Images = append(cfg.Images, localcloud.Image{Name: name, Program: []string{os.Args[0], play, st.dir}})
	}
	info, _ := cloudtest.Start(st.t, cfg, hclog.Warn, nil)
	st.cloud = cloud.Config{Endpoint: info.Endpoint, Region: info.Region, CredentialsFile: info.CredentialsFile, Poll: 100 * time.Millisecond, MaxBackoff: 200 * time.Millisecond}
}

// startBroker starts the bus on the keys that enrol made.
func (st *staged) startBroker() {
	st.t.Helper()
	if err := jsonfile.Write(filepath.Join(st.dir, stageFile), st.stage); err != nil {
		st.t.Fatal(err)
	}
	st.broker = startPart(st.t, role(st.t, "broker", st.dir))
}

// startController runs the controller in this process; one that the bus was lost to is followed by another one, as under a service manager.
func (st *staged) startController() {
	st.t.Helper()
	authority, err := broker.OpenAuthority(busDir(st.stage))
	if err != nil {
		st.t.Fatal(err)
	}
	log := hclog.New(&hclog.LoggerOptions{Output: st.t.Output(), Level: hclog.Info})
	st.loop(func(ctx context.Context) {
		if err := controller.Run(ctx, st.stage.config(), controller.Deps{Logger: log, Authority: authority}); err != nil && ctx.Err() == nil {
			st.t.Logf("the controller ended: %v", err)
		}
	})
}

func (st *staged) setVictim(victim func(step, server string)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.victim = victim
}

// follow tells of each step of each server of the newest job while it is seen to be under way.
func (st *staged) follow() {
	st.loop(func(ctx context.Context) {
		job, err := request[protocol.JobRequest, protocol.Job](ctx, st.operator, protocol.OperatorSubject(protocol.VerbJob, protocol.RoleOperator), protocol.JobRequest{})
		if err == nil {
			st.tell(job)
		}
	})
}

func (st *staged) tell(job protocol.Job) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.victim == nil {
		return
	}
	for _, s := range job.Servers {
		for _, step := range s.Steps {
			if step.Status == protocol.StepInProgress {
				st.victim(step.Name, s.Server)
			}
		}
	}
}

// killReplicaServer is [part.kill] for a process that the local cloud starts again.
func (st *staged) killReplicaServer() bool {
	text, err := os.ReadFile(stagingPid(st.dir))
	if err != nil {
		st.t.Error(err)
		return false
	}
	if info, err := os.Stat(stagingPid(st.dir)); err != nil || time.Since(info.ModTime()) < settled {
		return false
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return false // it is being written
	}
	// The number of one that is dead already may be another process's by now.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), st.dir) && syscall.Kill(pid, syscall.SIGKILL) == nil
}

// wantWriting checks that the writers of all sources go on.
func (st *staged) wantWriting() {
	st.t.Helper()
	before := map[string]int64{}
	for name, s := range st.sources {
		before[name] = s.wrote.Load()
	}
	st.await("writers", func() bool {
		for name, s := range st.sources {
			if s.wrote.Load() == before[name] {
				return false
			}
		}
		return true
	})
}

// wantSameBytes compares the volumes of the targets with the disks of the sources, whose writers stand still.
func (st *staged) wantSameBytes() {
	st.t.Helper()
	client, err := cloud.Open(st.t.Context(), st.cloud)
	if err != nil {
		st.t.Fatal(err)
	}
	status, err := ask[protocol.StatusRequest, protocol.Status](st.world, protocol.VerbStatus, protocol.StatusRequest{})
	if err != nil {
		st.t.Fatal(err)
	}
	for _, s := range status.Servers {
		inst, err := client.Instance(st.t.Context(), s.Record.Cutover.Instance)
		if err != nil {
			st.t.Fatal(err)
		}
		var want, got []string
		for _, disk := range st.sources[s.Record.Name].disks {
			want = append(want, fmt.Sprintf("%x", sum(st.t, disk)))
		}
		for _, v := range inst.Volumes {
			got = append(got, fmt.Sprintf("%x", sum(st.t, filepath.Join(st.cloudDir, "pool", "volumes", v+".raw"))))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			st.t.Errorf("the target of %s holds %v, its source %v", s.Record.Name, got, want)
		}
	}
}
