package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

func (w *world) pin(server, id string, pinned bool) ([]protocol.Point, error) {
	return ask[protocol.PinRequest, []protocol.Point](w, protocol.VerbPin, protocol.PinRequest{Server: server, ID: id, Pinned: pinned})
}

func (w *world) remove(server, id string) ([]protocol.Point, error) {
	return ask[protocol.RemoveRequest, []protocol.Point](w, protocol.VerbRemove, protocol.RemoveRequest{Server: server, ID: id})
}

// complete returns the ids of a server's complete points, newest first.
func (w *world) complete(server string) []string {
	w.t.Helper()
	ids := []string{}
	for _, pt := range w.points(server) {
		if pt.State == protocol.PointComplete {
			ids = append(ids, pt.ID)
		}
	}
	return ids
}

func TestAPinnedPointStays(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Replications[0].PointsEvery, f.Replications[0].PointsKeep = 150*time.Millisecond, 1
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	pinned := ""
	w.await("a pinned point", func() bool { // the newest one may be gone by the time that we pin it
		ids := w.complete("web-1")
		if len(ids) == 0 {
			return false
		}
		pts, err := w.pin("web-1", ids[0], true)
		pinned = ids[0]
		return err == nil && len(pts) == 1 && pts[0].Pinned
	})
	gone := func() bool { return !slices.Contains(w.complete("web-1"), pinned) }
	n := len(w.points("web-1"))
	w.await("five more points", func() bool { return len(w.points("web-1")) >= n+5 })
	if gone() {
		t.Error("the schedule removed a pinned point")
	}
	if _, err := w.remove("web-1", pinned); !isProblem(err) || !strings.Contains(err.Error(), "is pinned") {
		t.Errorf("removing a pinned point: got %v", err)
	}
	if _, err := w.pin("web-1", "p-none", true); !isProblem(err) || !strings.Contains(err.Error(), `no point "p-none"`) {
		t.Errorf("pinning what is not there: got %v", err)
	}
	if _, err := w.pin("web-1", pinned, false); err != nil {
		t.Fatal(err)
	}
	w.await("its end", gone)
	if _, err := w.pin("web-1", pinned, true); !isProblem(err) || !strings.Contains(err.Error(), "nothing to keep") {
		t.Errorf("pinning a removed point: got %v", err)
	}
}

func TestAPointOfSeveralServersIsPinnedAndRemovedWhole(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.application()
	w.apply(f)
	servers := f.Applications[0].Servers
	for _, s := range servers {
		w.agent(s)
	}
	id := w.take(protocol.PointRequest{Application: "shop"})[0].ID
	w.await("a point of all", func() bool {
		return !slices.ContainsFunc(servers, func(s string) bool { return w.points(s)[0].State != protocol.PointComplete })
	})
	if pts, err := w.pin("web-2", id, true); err != nil || len(pts) != 3 || slices.ContainsFunc(pts, func(pt protocol.Point) bool { return !pt.Pinned }) {
		t.Errorf("pinned %+v, %v", pts, err)
	}
	if _, err := w.remove("web-3", id); !isProblem(err) || w.snapshots() != 6 {
		t.Errorf("removing a pinned point: got %v, %d snapshots are left", err, w.snapshots())
	}
	if _, err := w.pin("web-1", id, false); err != nil {
		t.Fatal(err)
	}
	if pts, err := w.remove("web-3", id); err != nil || len(pts) != 3 || w.snapshots() != 0 {
		t.Errorf("removed %+v, %v; %d snapshots are left", pts, err, w.snapshots())
	}
}

func TestALaunchFromAChosenPoint(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	first := w.take(protocol.PointRequest{Server: "web-1"})[0].ID
	w.await("a point", func() bool { return slices.Contains(w.complete("web-1"), first) })
	second := w.take(protocol.PointRequest{Server: "web-1"})[0].ID
	w.await("a second one", func() bool { return slices.Contains(w.complete("web-1"), second) })

	launch := func(req protocol.StartRequest) (protocol.Job, error) {
		req.Wave = "one"
		return ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	}
	for _, c := range []struct {
		req  protocol.StartRequest
		want string
	}{
		{protocol.StartRequest{Kind: protocol.JobTest, Points: map[string]string{"web-9": first}}, "not in wave one"},
		{protocol.StartRequest{Kind: protocol.JobTest, Points: map[string]string{"web-1": "p-none"}}, `no point "p-none"`},
		{protocol.StartRequest{Kind: protocol.JobCutover, Force: "", Points: map[string]string{"web-1": first}}, "no test of it has passed"},
	} {
		if _, err := launch(c.req); !isProblem(err) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.req, err, c.want)
		}
	}
	job, err := launch(protocol.StartRequest{Kind: protocol.JobTest, Points: map[string]string{"web-1": first}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.remove("web-1", first); !isProblem(err) || !strings.Contains(err.Error(), "is used by job "+job.ID) {
		t.Errorf("removing the point of a running job: got %v", err)
	}
	done := w.awaitJob(job.ID)
	wantSucceeded(t, done)
	if step := done.Servers[0].Steps[0]; !strings.Contains(step.Detail, first) || !strings.Contains(step.Detail, "s old") {
		t.Errorf("the age of the point is not told: %q", step.Detail)
	}
	if r := w.server().Record; r.Test == nil || r.Test.Point != first {
		t.Errorf("launched from %+v, want point %s", r.Test, first)
	}
	if _, err := w.remove("web-1", first); !isProblem(err) || !strings.Contains(err.Error(), "is used by the test instance") {
		t.Errorf("removing the point of a test instance: got %v", err)
	}
	if _, err := launch(protocol.StartRequest{Kind: protocol.JobCutover, Points: map[string]string{"web-1": protocol.NewestPoint}}); !isProblem(err) || !strings.Contains(err.Error(), "loses what was written since") {
		t.Errorf("a cutover from an old point: got %v", err)
	}
	// Whatever becomes of the launch, a point that it did not take is not its to remove.
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTerminate).ID))
	if ids := w.complete("web-1"); !slices.Contains(ids, first) || !slices.Contains(ids, second) || w.cloud.left()[cloud.RolePointSnapshot] != 4 {
		t.Errorf("after the termination there are %v", ids)
	}
	job, err = launch(protocol.StartRequest{Kind: protocol.JobTest, Points: map[string]string{"web-1": protocol.NewestPoint}})
	if err != nil {
		t.Fatal(err)
	}
	wantSucceeded(t, w.awaitJob(job.ID))
	if r := w.server().Record; r.Test == nil || r.Test.Point != second {
		t.Errorf("launched from %+v, want point %s", r.Test, second)
	}
}
