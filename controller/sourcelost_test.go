package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// sourceLost has a source die behind its fence, when its target is about to pass its checks, and returns the cutover at its end.
func (w *world) sourceLost() protocol.Job {
	w.t.Helper()
	w.tested()
	wantSucceeded(w.t, w.awaitJob(w.start(protocol.JobTerminate).ID))
	w.cloud.setBooting(true)
	f := w.fleet()
	f.Checks[1].Timeout = time.Minute
	w.apply(f)
	id := w.start(protocol.JobCutover).ID
	w.await("the checks", func() bool { return stepOf(w.newestJob(), "web-1", "check").Status == protocol.StepInProgress })
	w.setMute("web-1", true)
	w.cloud.setBooting(false)
	return w.awaitJob(id)
}

// TestASourceThatDiesBehindItsFenceIsRolledBack: nobody knows whether it is dead or only not heard of. When it is there again, it goes on by itself.
func TestASourceThatDiesBehindItsFenceIsRolledBack(t *testing.T) {
	w := newWorld(t)
	w.fence = 500 * time.Millisecond
	defer w.controller(t.Context())()
	job := w.sourceLost()
	if decided(job)["shop"] != protocol.OutcomeRolledBack {
		t.Fatalf("got %v; %s", decided(job), outcomes(job))
	}
	keep, unfence := stepOf(job, "web-1", "keep"), stepOf(job, "web-1", "unfence")
	if keep.Problem == nil || !strings.Contains(keep.Problem.Message, "it was last heard of at ") || !strings.Contains(keep.Problem.Hint, "if it is gone for good") {
		t.Errorf("keep: %+v", keep.Problem)
	}
	if unfence.Status != protocol.StepFailed || !strings.Contains(unfence.Problem.Hint, "as soon as it can reach the controller") {
		t.Errorf("unfence is %s: %+v", unfence.Status, unfence.Problem)
	}
	if r := w.server().Record; r.Fence || r.Cutover != nil || r.Job != "" || r.Lifecycle != protocol.ReadyForCutover {
		t.Errorf("fence %v, cutover %+v, job %q, %s", r.Fence, r.Cutover, r.Job, r.Lifecycle)
	}
	if n := w.cloud.left()[cloud.RoleTarget]; n != 0 {
		t.Errorf("%d targets go on", n)
	}
	w.setMute("web-1", false)
	w.await("the source to go on", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.fences) > 0 && !w.fences[len(w.fences)-1]
	})
	w.fence = 0
	w.apply(w.fleet())
	if got := decided(w.awaitJob(w.start(protocol.JobCutover).ID))["shop"]; got != protocol.OutcomeCommitted {
		t.Errorf("the second attempt: %s", got)
	}
}

// TestASourceThatIsGoneForGoodIsCutOverFromItsLastPoint as the hint says, which has what was written until the fence.
func TestASourceThatIsGoneForGoodIsCutOverFromItsLastPoint(t *testing.T) {
	w := newWorld(t)
	w.fence = 500 * time.Millisecond
	defer w.controller(t.Context())()
	lost := w.sourceLost()
	f := w.fleet()
	f.Servers[0].Fence = "confirmed"
	w.apply(f)
	req := protocol.StartRequest{
		Selection: protocol.Selection{Servers: []string{"web-1"}}, Kind: protocol.JobCutover, Points: map[string]string{"web-1": protocol.NewestPoint}, Force: "the source's disks are broken", Confirmed: true,
	}
	job := w.awaitJob(w.startOf(req).ID)
	if decided(job)["shop"] != protocol.OutcomeCommitted {
		t.Fatalf("got %v; %s: %+v", decided(job), outcomes(job), job.Servers[0])
	}
	points, err := ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: "web-1"})
	i := slices.IndexFunc(points, func(p protocol.Point) bool { return p.State == protocol.PointComplete })
	if err != nil || i < 0 || points[i].Origin != protocol.OriginSchedule {
		t.Errorf("the schedule does not know the point, and will never remove it: %v, %+v", err, points)
	}
	behind, used := lost.Servers[0].Data["point"], job.Servers[0].Data["point"]
	if behind == "" || used != behind {
		t.Errorf("launched from point %q, and the one behind the fence is %q", used, behind)
	}
	w.awaitState(protocol.CuttingOver)
	want := map[string]int{
		cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2, cloud.RolePointSnapshot: 2, cloud.RoleConvertedSnapshot: 1, cloud.RoleImage: 1, cloud.RoleTarget: 1,
	}
	if diff := cmp.Diff(want, w.cloud.left()); diff != "" {
		t.Errorf("what there is (-want +got):\n%s", diff)
	}
}
