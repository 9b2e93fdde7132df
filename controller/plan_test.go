package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"rehost/internal/bus"
	"rehost/protocol"
)

func (w *world) plan(req protocol.PlanRequest) protocol.Plan {
	w.t.Helper()
	p, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// Two operators apply what they have planned, at once: one wins, the other is told what has moved, and nothing is mixed.
func TestOfTwoAppliesAtOnceOneWins(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	requests := make([]protocol.ApplyRequest, 2)
	for i := range requests {
		f := w.fleet()
		f.Launches[0].InstanceType = []string{"m5.large", "c5.large"}[i]
		f.Servers = append(f.Servers, protocol.ServerSettings{Name: fmt.Sprint("new-", i), Replication: "default", Launch: "web"})
		req := protocol.PlanRequest{Fleet: f}
		p := w.plan(req)
		requests[i] = protocol.ApplyRequest{Fleet: req.Fleet, Targets: req.Targets, Hash: p.Hash, Changes: p.Changes}
	}
	errs := make(chan error)
	for _, req := range requests {
		go func() {
			_, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, req)
			errs <- err
		}()
	}
	first, second := <-errs, <-errs
	if first != nil {
		first, second = second, first
	}
	if first != nil || !isProblem(second) {
		t.Fatalf("got %v and %v, want one success and one refusal", first, second)
	}
	if text := second.Error(); !strings.Contains(text, "stale") || !strings.Contains(text, `launch web instance_type was "t3.small", is "`) {
		t.Errorf("the other was told: %s", text)
	}
	same := 0
	for _, req := range requests {
		if len(w.plan(protocol.PlanRequest{Fleet: req.Fleet}).Changes) == 0 {
			same++
		}
	}
	if same != 1 {
		t.Errorf("%d of the two configurations are applied, want one as a whole", same)
	}
}

// A plan to remove a server is for the server as it was: its test has begun since.
func TestAPlanIsStaleWhenARecordMoved(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	p := w.plan(protocol.PlanRequest{})
	if text := fmt.Sprint(p.Effects); !strings.Contains(text, "deleted: 2 volumes of 5.0 GiB") {
		t.Errorf("the effects are %s", text)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	_, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Hash: p.Hash, Changes: p.Changes})
	if !isProblem(err) || !strings.Contains(err.Error(), "server web-1 was there (READY_FOR_TEST, ") {
		t.Errorf("got %v", err)
	}
}

func TestATargetLeavesTheRestAlone(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	f := w.fleet()
	f.Waves[0].Concurrency = 9
	f.Servers = append(f.Servers, protocol.ServerSettings{Name: "web-2", Replication: "default", Launch: "web"})
	req := protocol.PlanRequest{Fleet: f, Targets: []string{"server.web-2"}}
	p, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: req.Fleet, Targets: req.Targets})
	if err != nil || len(p.Changes) != 1 || p.Changes[0].Name != "web-2" {
		t.Fatalf("applied %+v, %v", p.Changes, err)
	}
	if left := w.plan(protocol.PlanRequest{Fleet: f}).Changes; len(left) != 1 || left[0].Kind != "wave" {
		t.Errorf("left to apply: %+v", left)
	}
	// What refers to a removed server is to be a target too.
	req = protocol.PlanRequest{Targets: []string{"server.web-1"}}
	if _, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, req); !isProblem(err) || !strings.Contains(err.Error(), `application shop refers to server "web-1"`) {
		t.Errorf("got %v", err)
	}
}

// A configuration of 10,000 servers, its plan and its record pass a bus of somebody else's, which takes 1 MiB.
func TestALargeConfigurationFitsTheBus(t *testing.T) {
	f := protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default"}},
		Launches:     []protocol.LaunchSettings{{Name: "web", InstanceType: "t3.small"}},
	}
	for i := range 10_000 {
		name := fmt.Sprintf("server-%05d", i)
		f.Servers = append(f.Servers, protocol.ServerSettings{Name: name, Replication: "default", Launch: "web", Disks: []string{}, Checks: []string{}, Fence: "hook"})
		f.Applications = append(f.Applications, protocol.ApplicationSettings{Name: name, Servers: []string{name}})
	}
	w := newWorld(t)
	defer w.controller(t.Context())()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // on a busy machine
	defer cancel()
	req := protocol.PlanRequest{Fleet: f}
	p, err := bus.Request[protocol.PlanRequest, protocol.Plan](ctx, w.operator, protocol.OperatorSubject(protocol.VerbPlan, "test"), req)
	if err != nil || len(p.Changes) != 20_002 {
		t.Fatalf("%d changes, %v", len(p.Changes), err)
	}
	const limit = 1 << 20
	for what, v := range map[string]any{"the request": protocol.ApplyRequest{Fleet: req.Fleet, Targets: req.Targets, Hash: p.Hash, Changes: p.Changes}, "the plan": p, "the record": f} {
		body, err := bus.Encode(v)
		t.Logf("%s: %d KiB", what, len(body)>>10)
		if err != nil || len(body) > limit {
			t.Errorf("%s is %d bytes, %v; want at most %d", what, len(body), err, limit)
		}
	}
}
