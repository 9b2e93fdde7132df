package controller

import (
	"testing"
	"time"

	"rehost/protocol"
)

func TestRestingIsWhoAwaitsNothing(t *testing.T) {
	done := []protocol.Initiation{{Step: protocol.StepWait, Status: protocol.StepSucceeded}}
	begun := []protocol.Initiation{{Step: protocol.StepWait, Status: protocol.StepInProgress}}
	steady := protocol.Server{Lifecycle: protocol.ReadyForTest, Generation: "g", Wanted: protocol.WantReplicate, Initiation: done}
	with := func(change func(*protocol.Server)) protocol.Server { r := steady; change(&r); return r }
	for _, tt := range []struct {
		name   string
		rec    protocol.Server
		points []protocol.Point
		known  bool
		want   bool
	}{
		{"replicates", steady, nil, true, true},
		{"with points that are over", steady, []protocol.Point{{State: protocol.PointComplete}, {State: protocol.PointLost}}, true, true},
		{"paused", with(func(r *protocol.Server) { r.Wanted = protocol.WantPause }), nil, true, true},
		{"never heard of", protocol.Server{Lifecycle: protocol.NotReady, Initiation: begun}, nil, false, true},
		{"finalized", with(func(r *protocol.Server) { r.Finalized = time.Now() }), nil, true, true},
		{"removed", protocol.Server{Lifecycle: protocol.Disconnected}, nil, true, true},
		{"stopped", protocol.Server{Lifecycle: protocol.NotReady, Stopped: time.Now()}, nil, true, true},
		{"being stopped", with(func(r *protocol.Server) { r.Stopped, r.Wanted = time.Now(), protocol.WantStop }), nil, true, false},
		{"has just come", protocol.Server{Lifecycle: protocol.NotReady, Initiation: begun}, nil, true, false},
		{"being staged", with(func(r *protocol.Server) { r.Initiation = begun }), nil, true, false},
		{"in a job", with(func(r *protocol.Server) { r.Job = "j" }), nil, true, false},
		{"moving", with(func(r *protocol.Server) { r.Move = &protocol.Move{} }), nil, true, false},
		{"gets another replication server", with(func(r *protocol.Server) { r.Replacing = "lost" }), nil, true, false},
		{"in trouble", with(func(r *protocol.Server) { r.Problem = &protocol.Problem{} }), nil, true, false},
		{"at a point", steady, []protocol.Point{{State: protocol.PointHeld}}, true, false},
		{"being removed", with(func(r *protocol.Server) { r.Lifecycle = protocol.Disconnected }), nil, true, false},
		{"told to disconnect", with(func(r *protocol.Server) { r.Wanted = protocol.WantDisconnect }), nil, true, false},
	} {
		if got := resting(tt.rec, tt.points, tt.known); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestAServerIsDueWhenSomethingHasChanged(t *testing.T) {
	l, now, later := newLooks(), time.Now(), time.Now().Add(time.Hour)
	revision := uint64(1)
	due := func(applied uint64, at time.Time) bool {
		return len(l.due([]string{"web-1"}, applied, func(string) uint64 { return revision }, at)) > 0
	}
	look := func(meanwhile func()) {
		l.begin("web-1")
		meanwhile()
		l.done("web-1", 1, later)
	}
	nothing := func() {}
	if !due(1, now) {
		t.Error("never looked at: not due")
	}
	look(nothing)
	if due(1, now) {
		t.Error("just looked at: due")
	}
	if !due(1, later) {
		t.Error("after the pause: not due")
	}
	look(nothing)
	if !due(2, now) {
		t.Error("another configuration: not due")
	}
	look(func() { l.touch([]string{"web-1"}) })
	if !due(2, now) {
		t.Error("heard of during a look: not due")
	}
	look(func() { revision = 2 })
	if !due(2, now) {
		t.Error("its record was changed during a look: not due")
	}
}
