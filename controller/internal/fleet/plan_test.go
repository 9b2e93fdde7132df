package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func plan(t *testing.T, applied, wanted protocol.Fleet, v View) protocol.Plan {
	t.Helper()
	p, err := Plan(applied, wanted, v)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func lines(p protocol.Plan) []string {
	var out []string
	for _, c := range p.Changes {
		words := []string{c.Action, c.Kind, c.Name}
		for _, f := range c.Fields {
			words = append(words, fmt.Sprintf("%s: %s -> %s", f.Field, orNone(f.Before), orNone(f.After)))
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

func TestPlanOfTheSameConfigurationIsEmpty(t *testing.T) {
	if p := plan(t, example(), example(), View{}); len(p.Changes) != 0 || len(p.Effects) != 0 {
		t.Errorf("got %+v", p)
	}
}

func TestPlanListsWhatChanges(t *testing.T) {
	wanted := example()
	wanted.Launches[0].InstanceType = "t3.large"
	wanted.Launches[0].Tags = map[string]string{"team": "shop"}
	wanted.Launches[0].UserData = "#!/bin/sh\npassword=secret"
	wanted.Servers = append(wanted.Servers, protocol.ServerSettings{Name: "web-2", Replication: "default", Launch: "web"})
	wanted.Waves = nil
	p := plan(t, example(), wanted, View{})
	want := []string{
		`update launch web instance_type: "t3.small" -> "t3.large" tags.team: none -> "shop" user_data: none -> "(25 bytes, sha256 598a3488...)"`,
		`create server web-2 launch: none -> "web" launch.instance_type: none -> "t3.large" replication: none -> "default"`, "remove wave one",
	}
	if diff := cmp.Diff(want, lines(p)); diff != "" {
		t.Error(diff)
	}
	if again := plan(t, example(), wanted, View{}); again.Hash != p.Hash {
		t.Errorf("the same plan has hashes %s and %s", p.Hash, again.Hash)
	}
	if other := plan(t, wanted, wanted, View{}); other.Hash == p.Hash {
		t.Error("plans against different records have the same hash")
	}
}

func TestTheOrderOfScriptsCounts(t *testing.T) {
	a, b := example(), example()
	one, two := protocol.Script{Name: "one", Content: "1"}, protocol.Script{Name: "two", Content: "2"}
	a.Launches[0].Scripts, b.Launches[0].Scripts = []protocol.Script{one, two}, []protocol.Script{two, one}
	if diff := cmp.Diff([]string{`update launch web scripts: ["one","two"] -> ["two","one"]`}, lines(plan(t, a, b, View{}))); diff != "" {
		t.Error(diff)
	}
}

// replicated is a view in which web-1 has a replica of two disks.
func replicated() View {
	return View{
		Servers: map[string]protocol.Server{"web-1": {
			Name: "web-1", Lifecycle: protocol.ReadyForCutover, Generation: "g1", Replica: "rs-1",
			Volumes: []protocol.StagingVolume{{SizeBytes: 100 << 30}, {SizeBytes: 20 << 30}}, Test: &protocol.Launched{Instance: "i-1"},
		}},
		Disks:    map[string][]protocol.DiskReport{"web-1": {{SizeBytes: 100 << 30}, {SizeBytes: 20 << 30}}, "web-2": {{SizeBytes: 8 << 30}}},
		Points:   map[string]int{"web-1": 3},
		Replicas: []protocol.ReplicaServer{{Name: "rs-1", Replication: "default", Servers: []string{"web-1"}}},
	}
}

func TestEffectsOfChanges(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(applied, wanted *protocol.Fleet, v *View)
		want   []string
	}{
		{"a server is removed", func(_, w *protocol.Fleet, _ *View) { w.Servers = nil }, []string{
			"its replication ends: 2 volumes of 120.0 GiB and 3 points are deleted", "its test instance i-1 is terminated",
			"sum: deleted: 2 volumes of 120.0 GiB, 3 points", "sum: terminated: 1 test instance",
		}},
		{"a migrated server is removed", func(_, w *protocol.Fleet, v *View) {
			w.Servers = nil
			r := v.Servers["web-1"]
			r.Finalized = time.Unix(1, 0)
			v.Servers["web-1"] = r
		}, []string{"its migration is complete: the launched instance stays"}},
		{"a server comes back", func(a, _ *protocol.Fleet, v *View) {
			a.Servers = nil
			v.Servers["web-1"] = protocol.Server{Name: "web-1", Lifecycle: protocol.Disconnected}
		}, []string{
			"full resync of web-1: 120.0 GiB on 2 disks", "sum: full sync of 1 server: 120.0 GiB",
		}},
		{"servers are new", func(_, w *protocol.Fleet, _ *View) {
			for _, name := range []string{"web-2", "web-3"} {
				w.Servers = append(w.Servers, protocol.ServerSettings{Name: name, Replication: "default", Launch: "web"})
			}
		}, []string{
			"full sync of web-2: 8.0 GiB on 1 disk", "full sync as soon as its agent reports",
			"sum: full sync of 2 servers: 8.0 GiB, and the disks of 1, whose agents have not reported",
		}},
		{"they need another replication server", func(_, w *protocol.Fleet, _ *View) {
			w.Replications[0].VolumesPerServer = 3
			for i := range 5 {
				w.Servers = append(w.Servers, protocol.ServerSettings{Name: fmt.Sprint("new-", i), Replication: "default", Launch: "web"})
			}
		}, []string{
			"for replication servers, volumes and streams made from now on; those of 1 server stay as they are",
			"full sync as soon as its agent reports", "full sync as soon as its agent reports", "full sync as soon as its agent reports",
			"full sync as soon as its agent reports", "full sync as soon as its agent reports",
			"sum: full sync of 5 servers, whose disks are known when their agents report", "sum: new replication servers of replication default: about 2 (t3.small)",
		}},
		{"other disks", func(_, w *protocol.Fleet, _ *View) { w.Servers[0].Disks = []string{"/dev/sda"} }, []string{
			"its replica stays as it is until it is replicated anew, which is a full resync of web-1: 120.0 GiB; name the disks in its agent.hcl too",
		}},
		{"another concurrency", func(_, w *protocol.Fleet, _ *View) { w.Replications[0].Concurrency = 2 }, []string{"concurrency: for jobs from now on; one that runs keeps to the lower number"}},
		{"other bandwidth", func(_, w *protocol.Fleet, _ *View) { w.Replications[0].Bandwidth.Server = 1 << 20 }, []string{"bandwidth, window, freezes and points: at once"}},
		{"another fence and launch", func(_, w *protocol.Fleet, _ *View) { w.Servers[0].Fence, w.Servers[0].Launch = "confirmed", "db" }, []string{
			"for launches from now on", "from the next cutover on",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			applied, wanted, v := example(), example(), replicated()
			for _, f := range []*protocol.Fleet{&applied, &wanted} {
				f.Replications[0].InstanceType, f.Replications[0].VolumesPerServer = "t3.small", 15
			}
			c.change(&applied, &wanted, &v)
			p := plan(t, applied, wanted, v)
			var got []string
			for _, change := range p.Changes {
				got = append(got, change.Effects...)
			}
			for _, e := range p.Effects {
				got = append(got, "sum: "+e)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAStalePlanSaysWhatHasMoved(t *testing.T) {
	wanted := example()
	wanted.Launches[0].InstanceType = "t3.large"
	wanted.Servers = append(wanted.Servers, protocol.ServerSettings{Name: "web-2", Replication: "default", Launch: "web"})
	wanted.Waves = nil
	for _, c := range []struct {
		name string
		move func(applied *protocol.Fleet, v *View)
		want string
	}{
		{"nothing", func(*protocol.Fleet, *View) {}, ""},
		{"effects only", func(_ *protocol.Fleet, v *View) { v.Disks["web-2"][0].SizeBytes++ }, ""},
		{"a setting", func(a *protocol.Fleet, _ *View) { a.Launches[0].InstanceType = "t3.medium" }, `launch web instance_type was "t3.small", is "t3.medium"`},
		{"another setting", func(a *protocol.Fleet, _ *View) { a.Launches[0].Subnet = "subnet-1" }, `launch web subnet was as wanted, is "subnet-1"`},
		{"somebody was faster", func(a *protocol.Fleet, _ *View) { *a = wanted }, "launch web was other than the plan wants it, is as the plan wants it; server web-2 was not there, is as the plan wants it; wave one was there, is as the plan wants it"},
		{"another server", func(a *protocol.Fleet, _ *View) { a.Servers = append(a.Servers, protocol.ServerSettings{Name: "db-1"}) }, "server db-1 was as the plan wants it, is there"},
		{"a block that is removed", func(a *protocol.Fleet, _ *View) { a.Waves[0].Concurrency = 9 }, "wave one has changed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := plan(t, example(), wanted, replicated())
			applied, v := example(), replicated()
			c.move(&applied, &v)
			p := Stale(before.Hash, before.Changes, plan(t, applied, wanted, v))
			if c.want == "" {
				if p != nil {
					t.Errorf("refused: %v", p)
				}
				return
			}
			if p == nil || !strings.HasSuffix(p.Message, ": "+c.want) || p.Hint == "" || p.Code != protocol.ProblemConflict {
				t.Errorf("got %v, want it to end with %q", p, c.want)
			}
		})
	}
}

func TestAPlanToRemoveIsForTheReplicaThatItSaw(t *testing.T) {
	wanted := example()
	wanted.Servers = nil
	before := plan(t, example(), wanted, replicated())
	v := replicated()
	r := v.Servers["web-1"]
	r.Lifecycle, r.Cutover = protocol.CuttingOver, &protocol.Launched{Instance: "i-9"}
	v.Servers["web-1"] = r
	p := Stale(before.Hash, before.Changes, plan(t, example(), wanted, v))
	if want := "server web-1 was there (READY_FOR_CUTOVER, replica g1), is there (CUTTING_OVER, replica g1, launched i-9)"; p == nil || !strings.HasSuffix(p.Message, want) {
		t.Errorf("got %v, want it to end with %q", p, want)
	}
}
