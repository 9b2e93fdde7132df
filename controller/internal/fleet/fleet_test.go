package fleet

import (
	"strings"
	"testing"

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

func TestOneErrorTellsOnlySoMuch(t *testing.T) {
	f := example()
	for range 10_000 {
		f.Servers[0].Checks = append(f.Servers[0].Checks, "none")
	}
	p := Validate(f)
	if p == nil || len(p.Message) > 4000 || !strings.Contains(p.Message, "and 9980 more") {
		t.Errorf("got %v", p)
	}
}
