package fleet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// grown is the example with another wave of its own application and server, and other settings for all.
func grown() protocol.Fleet {
	f := example()
	f.Launches = []protocol.LaunchSettings{{Name: "web", InstanceType: "t3.large"}, {Name: "db", InstanceType: "m5.large", SSH: &protocol.SSHSettings{}}}
	f.Checks, f.Actions = []protocol.CheckSettings{{Name: "page"}}, []protocol.ActionSettings{{Name: "join"}}
	f.Servers = append(f.Servers, protocol.ServerSettings{Name: "db-1", Replication: "default", Launch: "db", Checks: []string{"page"}, Actions: []string{"join"}})
	f.Applications = append(f.Applications, protocol.ApplicationSettings{Name: "ledger", Servers: []string{"db-1"}})
	f.Waves = append(f.Waves, protocol.WaveSettings{Name: "two", Applications: []string{"ledger"}})
	return f
}

func TestTargetsTakeWhatTheyReferTo(t *testing.T) {
	for _, c := range []struct {
		targets []string
		want    []string
	}{
		{nil, []string{"update launch web", "create launch db", "create check page", "create action join", "create server db-1", "create application ledger", "create wave two"}},
		{[]string{"server.web-1"}, []string{"update launch web"}},
		{[]string{"server.db-1"}, []string{"create launch db", "create check page", "create action join", "create server db-1"}},
		{[]string{"application.ledger"}, []string{"create launch db", "create check page", "create action join", "create server db-1", "create application ledger"}},
		{[]string{"wave.two"}, []string{"create launch db", "create check page", "create action join", "create server db-1", "create application ledger", "create wave two"}},
	} {
		t.Run(strings.Join(c.targets, " "), func(t *testing.T) {
			got, p := Target(example(), grown(), c.targets)
			if p != nil {
				t.Fatal(p)
			}
			if p := Validate(got); p != nil {
				t.Error(p)
			}
			want := map[string]bool{}
			for _, l := range c.want {
				want[l] = true
			}
			have := map[string]bool{}
			for _, change := range plan(t, example(), got, View{}).Changes {
				have[change.Action+" "+block(change)] = true
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestATargetThatIsGoneIsRemovedAlone(t *testing.T) {
	got, p := Target(grown(), example(), []string{"wave.two"})
	if p != nil {
		t.Fatal(p)
	}
	if diff := cmp.Diff([]string{"remove wave two"}, lines(plan(t, grown(), got, View{}))); diff != "" {
		t.Error(diff)
	}
}

func TestWrongTargetsAreRefused(t *testing.T) {
	for _, target := range []string{"web-1", "server.", "launch.web", "server.web-9", ""} {
		if _, p := Target(example(), grown(), []string{target}); p == nil || p.Hint == "" {
			t.Errorf("%q: got %v", target, p)
		}
	}
}
