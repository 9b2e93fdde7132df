package wave

import (
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

func TestApprovalsCountAndSayWhyNot(t *testing.T) {
	now := at(t, "2026-12-01T12:00:00Z")
	of := map[string]string{"wave one": "a", "server web-1": "b"}
	yes := func(role, operator string) protocol.Approval {
		return protocol.Approval{Wave: "one", Role: role, Operator: operator, At: now.Add(-time.Hour), Of: of}
	}
	old, other := yes("boss", "ada"), yes("boss", "ada")
	old.At, other.Of = now.Add(-25*time.Hour), map[string]string{"wave one": "a", "server db-1": "b"}
	two := []protocol.ApprovalSettings{{Role: "boss", Count: 2, FourEyes: true, Valid: 24 * time.Hour}}
	for _, tt := range []struct {
		name  string
		want  []protocol.ApprovalSettings
		given []protocol.Approval
		why   string // of the closed gates
	}{
		{"two of two", two, []protocol.Approval{yes("boss", "ada"), yes("boss", "ben")}, ""},
		{"one of two", two, []protocol.Approval{yes("boss", "ada")}, "1 of 2 approvals"},
		{"who starts", two, []protocol.Approval{yes("boss", "eve"), yes("boss", "ada")}, "1 of 2 approvals; that of eve does not count, who would start the cutover too"},
		{"who starts, and nobody minds", []protocol.ApprovalSettings{{Role: "boss", Count: 1}}, []protocol.Approval{yes("boss", "eve")}, ""},
		{"old", two, []protocol.Approval{old}, "0 of 2 approvals; that of ada is void (it is 25h0m old, and counts for 24h0m)"},
		{"old, and it does not matter", []protocol.ApprovalSettings{{Role: "boss", Count: 1}}, []protocol.Approval{old}, ""},
		{"changed", two, []protocol.Approval{other}, "0 of 2 approvals; that of ada is void (changed since: server db-1, server web-1)"},
		{"without the role", two, []protocol.Approval{yes("boss", "kim")}, "0 of 2 approvals; that of kim is void (kim does not have the role any more)"},
		{
			"two roles with four eyes",
			[]protocol.ApprovalSettings{{Role: "boss", Count: 1, FourEyes: true}, {Role: "guard", Count: 1, FourEyes: true}},
			[]protocol.Approval{yes("boss", "ada"), yes("guard", "ada")},
			"0 of 1 approvals; that of ada counts as boss already",
		},
		{
			"two roles, and nobody minds",
			[]protocol.ApprovalSettings{{Role: "boss", Count: 1}, {Role: "guard", Count: 1}},
			[]protocol.Approval{yes("boss", "ada"), yes("guard", "ada")},
			"",
		},
	} {
		e := Evidence{Wave: "one", Asker: "eve", Approvals: tt.given, Of: of, Holders: map[string][]string{"boss": {"ada", "ben", "eve"}, "guard": {"ada"}}}
		var why []string
		for _, g := range Judge(protocol.GateSettings{Approvals: tt.want}, nil, e, 0, now) {
			if !g.Open {
				why = append(why, g.Why)
			}
		}
		if got := strings.Join(why, "|"); got != tt.why {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.why)
		}
	}
}

func TestTheHintNamesWhoCanApprove(t *testing.T) {
	now := at(t, "2026-12-01T12:00:00Z")
	s := protocol.GateSettings{Approvals: []protocol.ApprovalSettings{{Role: "boss", Count: 2, FourEyes: true}}}
	e := Evidence{Wave: "one", Asker: "eve", Holders: map[string][]string{"boss": {"ada", "ben", "eve"}}, Approvals: []protocol.Approval{{Role: "boss", Operator: "ada", At: now}}}
	if got, want := Judge(s, nil, e, 0, now)[0].Hint, "one of ben runs: rehost wave approve one --role boss --reason TEXT"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	e.Holders["boss"] = []string{"ada", "eve"}
	if got, want := Judge(s, nil, e, 0, now)[0].Hint, "give somebody else the role, on the controller's machine: rehost admin operator NAME --role boss"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestAnApprovalIsForWhatTheCutoverIsMadeOf changes one block after the other.
func TestAnApprovalIsForWhatTheCutoverIsMadeOf(t *testing.T) {
	fleet := func() protocol.Fleet {
		return protocol.Fleet{
			Replications: []protocol.ReplicationSettings{{Name: "default"}},
			Launches:     []protocol.LaunchSettings{{Name: "web"}, {Name: "other"}},
			Checks:       []protocol.CheckSettings{{Name: "page"}, {Name: "unused"}},
			Actions:      []protocol.ActionSettings{{Name: "join"}, {Name: "unused"}},
			Servers:      []protocol.ServerSettings{{Name: "web-1", Launch: "web", Checks: []string{"page"}, Actions: []string{"join"}}, {Name: "db-1", Launch: "other"}},
			Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"web-1"}}, {Name: "data", Servers: []string{"db-1"}}},
			Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop"}}, {Name: "two", Applications: []string{"data"}}},
		}
	}
	before, err := Approved(fleet(), "one")
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*protocol.Fleet){
		"launch web":       func(f *protocol.Fleet) { f.Launches[0].Subnet = "subnet-1" },
		"check page":       func(f *protocol.Fleet) { f.Checks[0].Port = 81 },
		"action join":      func(f *protocol.Fleet) { f.Actions[0].Content = "#!/bin/sh" },
		"server web-1":     func(f *protocol.Fleet) { f.Servers[0].Fence = "confirmed" },
		"wave one":         func(f *protocol.Fleet) { f.Waves[0].Gates.Tested = time.Hour },
		"application shop": func(f *protocol.Fleet) { f.Applications[0].After = []string{"data"} },
		"application shop, launch other, server db-1": func(f *protocol.Fleet) { f.Applications[0].Servers = []string{"web-1", "db-1"} },
		"": func(f *protocol.Fleet) {
			f.Launches[1].Subnet, f.Checks[1].Port, f.Servers[1].Fence, f.Waves[1].Concurrency, f.Replications[0].Window = "subnet-2", 1, "hook", 1, 1
			f.Actions[1].Repeatable = true
		},
	} {
		f := fleet()
		change(&f)
		now, err := Approved(f, "one")
		if err != nil {
			t.Fatal(err)
		}
		if got := changed(before, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
