package controller

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// points returns the points of a server, newest first.
func (w *world) points(server string) []protocol.Point {
	w.t.Helper()
	all, err := ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: server})
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// take asks for a point as soon as the servers are CONTINUOUS.
func (w *world) take(req protocol.PointRequest) []protocol.Point {
	w.t.Helper()
	var ordered []protocol.Point
	w.await("the order of a point", func() bool {
		var err error
		ordered, err = ask[protocol.PointRequest, []protocol.Point](w, protocol.VerbPoint, req)
		return err == nil
	})
	return ordered
}

func (w *world) snapshots() int {
	w.t.Helper()
	list, err := w.cloud.Snapshots(w.t.Context(), cloud.Tags{cloud.TagRole: cloud.RolePointSnapshot})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

func TestAPointOnRequestIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Replications[0].FreezeAttempts = 5
	w.failing = 2
	w.apply(f)
	w.agent("web-1")
	start := time.Now()
	first := w.take(protocol.PointRequest{Server: "web-1"})[0]
	w.await("a complete point", func() bool { return w.points("web-1")[0].State == protocol.PointComplete })
	if took := time.Since(start); took < 3*time.Second {
		t.Errorf("three attempts within %s: there was no pause between them", took)
	}
	all := w.points("web-1")
	if len(all) != 3 {
		t.Fatalf("got %+v, want three attempts", all)
	}
	for i, pt := range all {
		n := 3 - i
		id, state := first.ID, protocol.PointComplete
		if n > 1 {
			id = fmt.Sprintf("%s-%d", first.ID, n)
		}
		if n < 3 {
			state = protocol.PointLost
		}
		if pt.ID != id || pt.Attempt != n || pt.State != state || pt.Origin != protocol.OriginRequest || (pt.State == protocol.PointLost) != (pt.Problem != nil) {
			t.Errorf("attempt %d: %+v", n, pt)
		}
	}
}

func TestAPointThatFailsForGoodIsNotTriedAgain(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Replications[0].FreezeAttempts = 2
	w.failing = 100
	w.apply(f)
	w.agent("web-1")
	w.take(protocol.PointRequest{Server: "web-1"})
	w.await("two failures", func() bool {
		all := w.points("web-1")
		return len(all) == 2 && all[0].State == protocol.PointLost
	})
	time.Sleep(2500 * time.Millisecond) // a third one would come after two seconds
	if all := w.points("web-1"); len(all) != 2 {
		t.Errorf("%d attempts, want 2", len(all))
	}
	if n := w.snapshots(); n != 0 {
		t.Errorf("%d snapshots of failed points", n)
	}
}

// application is a fleet with an application of three servers.
func (w *world) application() protocol.Fleet {
	f := w.fleet()
	f.Replications[0].FreezeAttempts = 5
	for _, name := range []string{"web-2", "web-3"} {
		s := f.Servers[0]
		s.Name = name
		f.Servers = append(f.Servers, s)
	}
	f.Applications[0].Servers = []string{"web-1", "web-2", "web-3"}
	return f
}

func TestAPointOfAnApplicationIsOfferedWhole(t *testing.T) {
	w := newWorld(t)
	stop := w.controller(t.Context())
	f := w.application()
	w.apply(f)
	servers := f.Applications[0].Servers
	for _, s := range servers {
		w.agent(s)
	}
	w.mu.Lock()
	w.slow = "web-3"
	w.mu.Unlock()
	ordered := w.take(protocol.PointRequest{Application: "shop"})
	id := ordered[0].ID
	for i, pt := range ordered {
		if pt.ID != id || pt.Server != servers[i] || pt.Group != "shop" || !slices.Equal(pt.Members, servers) {
			t.Errorf("ordered %+v", pt)
		}
	}
	states := func() (all []protocol.PointStage) {
		for _, s := range servers {
			pts := w.points(s)
			all = append(all, pts[0].State)
		}
		return all
	}
	held := []protocol.PointStage{protocol.PointHeld, protocol.PointHeld, protocol.PointOrdered}
	w.await("two replicas that stand still", func() bool { return slices.Equal(states(), held) })
	stop() // what is known of the group is in the records
	defer w.controller(t.Context())()
	time.Sleep(200 * time.Millisecond)
	if n := w.snapshots(); n != 0 || !slices.Equal(states(), held) {
		t.Errorf("%d snapshots before all replicas stand still, %v", n, states())
	}
	w.mu.Lock()
	w.slow = ""
	w.mu.Unlock()
	complete := slices.Repeat([]protocol.PointStage{protocol.PointComplete}, 3)
	w.await("a complete point of all", func() bool { return slices.Equal(states(), complete) })
	if n := w.snapshots(); n != 6 {
		t.Errorf("%d snapshots, want two of each server", n)
	}

	// One that fails lets all fail, and all try again together.
	w.mu.Lock()
	w.failing = 1
	w.mu.Unlock()
	second := w.take(protocol.PointRequest{Application: "shop"})[0].ID
	w.await("another attempt of all", func() bool {
		return !slices.ContainsFunc(servers, func(s string) bool {
			pt := w.points(s)[0]
			return pt.ID != second+"-2" || pt.State != protocol.PointComplete
		})
	})
	for _, s := range servers {
		if pt := w.points(s)[1]; pt.ID != second || pt.State != protocol.PointLost || !pt.Passing || pt.Problem == nil {
			t.Errorf("the first attempt of %s: %+v", s, pt)
		}
	}
	w.await("the failed attempt's snapshots to go", func() bool { return w.snapshots() == 12 })
}

func TestPointsOfTheScheduleComeAndGo(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Replications[0].PointsEvery, f.Replications[0].PointsKeep = 150*time.Millisecond, 2
	w.apply(f)
	w.agent("web-1")
	w.await("six points", func() bool { return w.server().Record.Name != "" && len(w.points("web-1")) >= 6 })
	complete := 0
	for _, pt := range w.points("web-1") {
		if pt.Origin != protocol.OriginSchedule {
			t.Errorf("%s: origin %q", pt.ID, pt.Origin)
		}
		if pt.State == protocol.PointComplete {
			complete++
		}
	}
	if complete > 3 { // one more while the oldest is being removed
		t.Errorf("%d points are kept, want 2", complete)
	}
	f.Replications[0].PointsEvery = 0
	w.apply(f)
	w.await("the snapshots of two points", func() bool { return w.snapshots() == 4 })
}

func TestPointsThatCannotBe(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	for _, req := range []protocol.PointRequest{{}, {Server: "web-1", Application: "shop"}, {Server: "db-9"}, {Application: "bank"}, {Server: "web-1"}} {
		if _, err := ask[protocol.PointRequest, []protocol.Point](w, protocol.VerbPoint, req); !isProblem(err) {
			t.Errorf("%+v: got %v", req, err)
		}
	}
}
