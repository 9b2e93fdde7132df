package fleet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func example() protocol.Fleet {
	return protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default"}},
		Launches:     []protocol.LaunchSettings{{Name: "web", InstanceType: "t3.small"}},
		Servers:      []protocol.ServerSettings{{Name: "web-1", Replication: "default", Launch: "web"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"web-1"}}},
		Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop"}}},
	}
}

func TestPlanOfTheSameConfigurationIsEmpty(t *testing.T) {
	p, err := Plan(example(), example())
	if err != nil || len(p.Changes) != 0 {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestPlanListsWhatChanges(t *testing.T) {
	wanted := example()
	wanted.Launches[0].InstanceType = "t3.large"
	wanted.Servers = append(wanted.Servers, protocol.ServerSettings{Name: "web-2", Replication: "default", Launch: "web"})
	wanted.Waves = nil
	p, err := Plan(example(), wanted)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.Changes {
		got = append(got, strings.Join(append([]string{c.Action, c.Kind, c.Name}, c.Fields...), " "))
	}
	want := []string{`update launch web instance_type: "t3.small" -> "t3.large"`, "create server web-2", "remove wave one"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	again, err := Plan(example(), wanted)
	if err != nil || again.Hash != p.Hash {
		t.Errorf("the same plan has hashes %s and %s, %v", p.Hash, again.Hash, err)
	}
	if other, _ := Plan(wanted, wanted); other.Hash == p.Hash {
		t.Error("plans against different records have the same hash")
	}
}

func TestValidateFindsEverythingAtOnce(t *testing.T) {
	if p := Validate(example()); p != nil {
		t.Fatalf("the example is refused: %v", p)
	}
	f := example()
	f.Servers[0].Launch = "none"
	f.Servers[0].Fence = "hope"
	f.Servers = append(f.Servers, protocol.ServerSettings{Name: "Web 2", Replication: "default", Launch: "web"})
	f.Applications = append(f.Applications, protocol.ApplicationSettings{Name: "mail", Servers: []string{"web-1", "mx-1"}})
	f.Waves[0].After = []string{"one"}
	p := Validate(f)
	if p == nil {
		t.Fatal("a wrong configuration is accepted")
	}
	for _, want := range []string{`launch "none"`, `fence is "hope"`, `"Web 2"`, "in application shop and in application mail", `server "mx-1"`, "one -> one"} {
		if !strings.Contains(p.Message, want) {
			t.Errorf("%q is missing in: %s", want, p.Message)
		}
	}
}
