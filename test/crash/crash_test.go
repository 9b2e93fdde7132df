package crash

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// TestJobsSurviveAKillAtEveryBoundary kills the controller after each change that it makes in the cloud, before it can record it,
// and after each record that it writes, throughout a test launch and a cutover of three servers.
func TestJobsSurviveAKillAtEveryBoundary(t *testing.T) { survive(t, cast{}, 60) }

// TestJobsSurviveKillsOfTheBusToo has the bus in the controller, which is killed with it. Who watches the records has to find the next bus
// first, so it is killed less often.
func TestJobsSurviveKillsOfTheBusToo(t *testing.T) { survive(t, cast{own: true}, 15) }

// TestJobsSurviveKillsOfTheLeader has two controllers: the one that leads is killed, or stands still until the other one has led for a while.
func TestJobsSurviveKillsOfTheLeader(t *testing.T) {
	survive(t, cast{names: []string{"one", "two"}}, 60)
}

// survive kills at least so many controllers in each of the jobs.
func survive(t *testing.T, c cast, kills int) {
	t.Helper()
	needCrash(t)
	servers := []string{"web-1", "web-2", "web-3"}
	w := newWorld(t, fleet(servers), c)
	for _, stage := range []struct {
		kind protocol.JobKind
		then protocol.Lifecycle
	}{{protocol.JobTest, protocol.ReadyForCutover}, {protocol.JobCutover, protocol.CuttingOver}} {
		began := time.Now()
		w.setMortal(true)
		job := w.run(stage.kind)
		n := w.setMortal(false)
		w.awaitAll(servers, stage.then)
		wantWhole(t, job, len(servers))
		t.Logf("%s: %d kills in %s", stage.kind, n, time.Since(began).Round(time.Second))
		if n < kills {
			t.Errorf("%s: the controller was killed %d times only", stage.kind, n)
		}
	}
	// One replication server; of each server two volumes, and of each of its two jobs two clones, a conversion, a target, two snapshots
	// of the point and two of the clones, an image.
	want := map[string]int{"RunInstances": 1 + 3*2*2, "CreateVolume": 3*2 + 3*2*2, "CreateSnapshots": 3 * 2 * 2, "CreateSnapshot": 3 * 2 * 2, "RegisterImage": 3 * 2}
	if diff := cmp.Diff(want, w.made.counts()); diff != "" {
		t.Errorf("what was made in the cloud (-want +got):\n%s", diff)
	}
	w.run(protocol.JobFinalize)
	w.wantOnlyTargets(len(servers))
}

// run takes a job of the wave to its end. A controller that was killed before it could answer may have started it.
func (w *world) run(kind protocol.JobKind) protocol.Job {
	w.t.Helper()
	return w.runRequest(protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: kind, Force: w.force})
}

func (w *world) runRequest(req protocol.StartRequest) protocol.Job {
	w.t.Helper()
	job, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	if err != nil {
		newest, errJob := ask[protocol.JobRequest, protocol.Job](w, protocol.VerbJob, protocol.JobRequest{})
		if errJob != nil || newest.Kind != req.Kind || newest.Status.Ended() {
			w.t.Fatal(err, errJob)
		}
		job = newest
	}
	w.await("job "+job.ID, func() bool {
		job, err = ask[protocol.JobRequest, protocol.Job](w, protocol.VerbJob, protocol.JobRequest{ID: job.ID})
		return err == nil && job.Status.Ended()
	})
	return job
}

// fleet has servers with two disks each in one wave, and no checks: nothing boots.
func fleet(servers []string) protocol.Fleet {
	f := protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default", VolumeType: "gp3"}},
		Launches:     []protocol.LaunchSettings{{Name: "web", InstanceType: "t3.nano", VolumeType: "gp3"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: servers}},
		Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop"}}},
	}
	for _, name := range servers {
		f.Servers = append(f.Servers, protocol.ServerSettings{Name: name, Replication: "default", Launch: "web", Fence: "hook"})
	}
	return f
}

func (w *world) awaitAll(servers []string, want protocol.Lifecycle) {
	w.t.Helper()
	w.await("all "+string(want), func() bool {
		s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{Servers: servers})
		return err == nil && len(s.Servers) == len(servers) && !slices.ContainsFunc(s.Servers, func(s protocol.ServerStatus) bool { return s.Record.Lifecycle != want })
	})
}

// wantWhole checks that a job succeeded for all servers, that each step took one attempt, and that the log has an end for each begin.
func wantWhole(t *testing.T, job protocol.Job, servers int) {
	t.Helper()
	if len(job.Servers) != servers || job.Status != protocol.JobCompleted {
		t.Fatalf("job %s is %s: %+v", job.ID, job.Status, job.Servers)
	}
	open := map[string]int{}
	for _, e := range job.Log {
		if base, ok := strings.CutSuffix(string(e.Event), "_START"); ok {
			open[e.Server+" "+base]++
		}
		if base, ok := strings.CutSuffix(string(e.Event), "_END"); ok {
			open[e.Server+" "+base]--
		}
	}
	for what, n := range open {
		if n != 0 {
			t.Errorf("%s: the log has %d more begins than ends of %s", job.ID, n, what)
		}
	}
	for _, s := range job.Servers {
		if s.Status != protocol.StepSucceeded {
			t.Errorf("%s: %s is %s: %+v", job.ID, s.Server, s.Status, s.Problem)
		}
		for _, step := range s.Steps {
			if step.Attempts > 1 {
				t.Errorf("%s: step %s of %s took %d attempts: a kill is no failure", job.ID, step.Name, s.Server, step.Attempts)
			}
		}
	}
}

// wantOnlyTargets looks at the cloud when all is over: a target of each server with its two volumes.
func (w *world) wantOnlyTargets(servers int) {
	w.t.Helper()
	client, err := cloud.Open(w.t.Context(), w.cloud)
	if err != nil {
		w.t.Fatal(err)
	}
	instances, err := client.Instances(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	alive := 0
	for _, i := range instances {
		if i.Alive() {
			alive++
		}
	}
	volumes, err1 := client.Volumes(w.t.Context(), nil)
	snapshots, err2 := client.Snapshots(w.t.Context(), nil)
	if err1 != nil || err2 != nil {
		w.t.Fatal(err1, err2)
	}
	if alive != servers || len(volumes) != 2*servers || len(snapshots) != 0 {
		w.t.Errorf("the cloud holds %d instances, %d volumes and %d snapshots, want %d, %d and 0", alive, len(volumes), len(snapshots), servers, 2*servers)
	}
}
