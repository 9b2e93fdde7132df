package controller

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/cloud"
	"rehost/protocol"
)

func isProblem(err error) bool {
	_, ok := errors.AsType[*protocol.Problem](err)
	return ok
}

func wantSucceeded(t *testing.T, job protocol.Job) {
	t.Helper()
	if len(job.Servers) != 1 || job.Servers[0].Status != protocol.StepSucceeded {
		t.Fatalf("job %s: %+v", job.ID, job.Servers)
	}
}

// once is what one whole migration makes, each thing once for each time it is needed.
var once = map[string]int{
	cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2, cloud.RolePointSnapshot: 4, cloud.RoleClone: 4, cloud.RoleConversion: 2,
	cloud.RoleConvertedSnapshot: 2, cloud.RoleImage: 2, cloud.RoleTarget: 2,
}

func wantCleanEnd(t *testing.T, w *world) {
	t.Helper()
	w.cloud.mu.Lock()
	made, wrong := w.cloud.made, w.cloud.calls
	w.cloud.mu.Unlock()
	if diff := cmp.Diff(once, made); diff != "" {
		t.Errorf("what was made in the cloud (-want +got):\n%s", diff)
	}
	if len(wrong) > 0 {
		t.Errorf("wrong calls: %v", wrong)
	}
	if diff := cmp.Diff(map[string]int{cloud.RoleTarget: 1}, w.cloud.left()); diff != "" {
		t.Errorf("what is left in the cloud (-want +got):\n%s", diff)
	}
}

func TestMigration(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	for _, i := range w.server().Record.Initiation {
		if i.Status != protocol.StepSucceeded && i.Status != protocol.StepSkipped {
			t.Errorf("initiation step %s is %s", i.Step, i.Status)
		}
	}
	test := w.awaitJob(w.start(protocol.JobTest).ID)
	wantSucceeded(t, test)
	if s := test.Servers[0]; len(s.Changes) != 1 || s.Guest == nil || s.Guest.OS != "Debian" {
		t.Errorf("the conversion's changes are not in the job: %+v", s)
	}
	w.awaitState(protocol.ReadyForCutover)
	s := w.server()
	if s.Record.Test == nil || s.LastPoint == nil || s.LastPoint.Fenced || s.Next != "rehost wave cutover one" {
		t.Errorf("after the test: test %+v, point %+v, next %q", s.Record.Test, s.LastPoint, s.Next)
	}
	cutover := w.awaitJob(w.start(protocol.JobCutover).ID)
	wantSucceeded(t, cutover)
	w.awaitState(protocol.CuttingOver)
	if s = w.server(); s.Record.Cutover == nil || s.Record.Test != nil || !s.Record.Fence || !s.LastPoint.Fenced {
		t.Errorf("after the cutover: %+v, point %+v", s.Record, s.LastPoint)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobFinalize).ID))
	w.awaitState(protocol.Cutover)
	if s = w.server(); s.Replication != protocol.ReplicationDisconnected || !s.Record.Fence {
		t.Errorf("after the end: replication %s, fence %v", s.Replication, s.Record.Fence)
	}
	wantCleanEnd(t, w)
	staging, clone := w.cloud.asked[cloud.RoleStagingVolume], w.cloud.asked[cloud.RoleClone]
	got := protocol.VolumeSettings{KMSKey: staging.KMSKey, IOPS: staging.IOPS, Throughput: staging.MiBps, InitRate: clone.InitMiBps}
	if got != volumes || clone.KMSKey != "" { // a clone is encrypted as its snapshot is
		t.Errorf("volumes were ordered as %+v, the clone with key %q", got, clone.KMSKey)
	}
}

// TestMigrationWithTheControllerKilledAtEveryChange kills the controller after each change that
// it makes in the cloud, before it hears the answer, and starts another one.
func TestMigrationWithTheControllerKilledAtEveryChange(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.cloud.mu.Lock()
	w.cloud.changed = m.kill
	w.cloud.mu.Unlock()
	kills := migrateUnderKills(t, w, m)
	t.Logf("%d kills", kills)
	if kills < 30 {
		t.Errorf("the controller was killed %d times only", kills)
	}
	wantCleanEnd(t, w)
}

// TestMigrationWithTheControllerKilledAtEveryRecord kills the controller as soon as a record of
// a job, a point or a replication server is written.
func TestMigrationWithTheControllerKilledAtEveryRecord(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.watch(m.kill, protocol.BucketJobs, protocol.BucketPoints, protocol.BucketStaging)
	kills := migrateUnderKills(t, w, m)
	t.Logf("%d kills", kills)
	if kills < 40 {
		t.Errorf("the controller was killed %d times only", kills)
	}
	wantCleanEnd(t, w)
}

// watch calls written for each record of these buckets that is written from now on, once for each content: a step that goes on
// after a kill says again how far it is, and a controller that is killed for the same words each time gets on by chance only.
func (w *world) watch(written func(), buckets ...string) {
	w.t.Helper()
	js, err := jetstream.New(bustest.Connect(w.t, w.bus, protocol.RoleController, "watcher"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, bucket := range buckets {
		kv, err := js.KeyValue(w.t.Context(), bucket)
		if err != nil {
			w.t.Fatal(err)
		}
		watcher, err := kv.WatchAll(w.t.Context(), jetstream.UpdatesOnly())
		if err != nil {
			w.t.Fatal(err)
		}
		go func() { // ends with the test's context
			seen := map[string]bool{}
			for u := range watcher.Updates() {
				if u != nil && seen[u.Key()+string(u.Value())] {
					continue
				}
				if u != nil {
					seen[u.Key()+string(u.Value())] = true
				}
				written()
			}
		}()
	}
}

// migrateUnderKills runs a whole migration, with another controller after each kill.
func migrateUnderKills(t *testing.T, w *world, m *mortal) (kills int) {
	t.Helper()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	for _, kind := range []protocol.JobKind{protocol.JobTest, protocol.JobCutover, protocol.JobFinalize} {
		job := w.awaitJob(w.start(kind).ID)
		wantSucceeded(t, job)
		wantLogWithoutGap(t, job)
		for _, s := range job.Servers[0].Steps {
			if s.Attempts > 1 {
				t.Errorf("%s: step %s was tried %d times: a kill is no failure", kind, s.Name, s.Attempts)
			}
		}
	}
	w.awaitState(protocol.Cutover)
	return m.end()
}

func wantLogWithoutGap(t *testing.T, job protocol.Job) {
	t.Helper()
	open := map[string]int{}
	for _, e := range job.Log {
		name := string(e.Event)
		if base, ok := strings.CutSuffix(name, "_START"); ok {
			open[base]++
		}
		if base, ok := strings.CutSuffix(name, "_END"); ok {
			open[base]--
		}
	}
	for base, n := range open {
		if n != 0 {
			t.Errorf("%s: the log has %d more starts than ends of %s", job.ID, n, base)
		}
	}
}

func TestAFailedCutoverLetsTheSourceGoOn(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	w.cloud.setBroken(true)
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	s := job.Servers[0]
	if s.Status != protocol.StepFailed || s.Problem == nil || s.Problem.Message != "no kernel found" || s.Problem.Step != "convert" {
		t.Fatalf("the failure is not told: %+v", s)
	}
	w.awaitState(protocol.ReadyForCutover)
	w.awaitFences(true, false)
	want := map[string]int{
		cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2, cloud.RolePointSnapshot: 2, cloud.RoleConvertedSnapshot: 1, cloud.RoleImage: 1, cloud.RoleTarget: 1,
	}
	if diff := cmp.Diff(want, w.cloud.left()); diff != "" {
		t.Errorf("what is left beside the replica and the test (-want +got):\n%s", diff)
	}
	w.cloud.setBroken(false)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
}

// Who asks for it finds the clones as the failed conversion left them; the next job has its own, and they go with the server at the latest.
func TestClonesOfAFailedConversionAreLeftWhenAsked(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.cloud.setBroken(true)
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest, KeepClones: true}
	job := w.awaitJob(w.startOf(req).ID)
	clones := strings.Split(job.Servers[0].Data["clones"], ",")
	if st := stepOf(job, "web-1", "cleanup"); job.Servers[0].Status != protocol.StepFailed || len(clones) != 2 || !strings.Contains(st.Detail, strings.Join(clones, ", ")) {
		t.Fatalf("the clones %v are not told: %+v", clones, job.Servers[0].Steps)
	}
	want := map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2, cloud.RoleClone: 2}
	if diff := cmp.Diff(want, w.cloud.left()); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	w.cloud.setBroken(false)
	wantSucceeded(t, w.awaitJob(w.startOf(req).ID)) // nothing failed: nothing more is left
	if got := w.cloud.left()[cloud.RoleClone]; got != 2 {
		t.Errorf("%d clones are left after a conversion that succeeded, want those 2", got)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobFinalize).ID))
	if got := w.cloud.left()[cloud.RoleClone]; got != 0 {
		t.Errorf("%d clones are left of a server that is finalized", got)
	}
}

// The root of a server may lie on several disks: what the conversion wrote to is in the image, and of the others the point's own snapshot.
func TestAnImageHasTheConvertedDisks(t *testing.T) {
	for name, spread := range map[string]bool{"the boot disk only": false, "all disks": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.cloud.spread = spread
			defer w.controller(t.Context())()
			w.apply(w.fleet())
			w.agent("web-1")
			w.awaitState(protocol.ReadyForTest)
			wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
			w.cloud.mu.Lock()
			defer w.cloud.mu.Unlock()
			var roles []string
			for _, i := range w.cloud.images {
				for _, s := range i.Snapshots {
					roles = append(roles, w.cloud.snapshots[s].Tags[cloud.TagRole])
				}
			}
			want := []string{cloud.RoleConvertedSnapshot, cloud.RolePointSnapshot}
			if spread {
				want[1] = cloud.RoleConvertedSnapshot
			}
			if diff := cmp.Diff(want, roles); diff != "" {
				t.Errorf("the image's snapshots (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAFailedCheckKeepsTheTargetForALook(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Checks[0].Contains, f.Checks[0].Timeout = "another page", 300*time.Millisecond
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	s := w.awaitJob(w.start(protocol.JobTest).ID).Servers[0]
	if s.Status != protocol.StepFailed || s.Problem == nil || s.Problem.Code != protocol.ProblemCheck || !strings.Contains(s.Problem.Message, `without "another page"`) {
		t.Fatalf("the failed check is not told: %+v", s.Problem)
	}
	w.awaitState(protocol.ReadyForTest)
	_, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover})
	if !isProblem(err) || !strings.Contains(err.Error(), "no test of it has passed") {
		t.Errorf("a cutover after a failed test: got %v", err)
	}
	if left := w.cloud.left(); left[cloud.RoleTarget] != 1 || left[cloud.RoleClone] != 0 || left[cloud.RoleConversion] != 0 {
		t.Errorf("left after the failed test: %v", left)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTerminate).ID))
	if diff := cmp.Diff(map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2}, w.cloud.left()); diff != "" {
		t.Errorf("left after the termination (-want +got):\n%s", diff)
	}
}

func TestTheOperatorsWordIsAFence(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Servers[0].Fence = "confirmed"
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover, Force: "tested elsewhere"}
	if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "writers are stopped") {
		t.Errorf("nobody has confirmed: got %v", err)
	}
	req.Confirmed = true
	job, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	if err != nil {
		t.Fatal(err)
	}
	wantSucceeded(t, w.awaitJob(job.ID))
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.fences) > 0 {
		t.Errorf("the agent was ordered to fence: %v", w.fences)
	}
}

func TestASourceThatDoesNotFenceIsNotCutOver(t *testing.T) {
	w := newWorld(t)
	w.brokenFence = true
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover, Force: "tested elsewhere"}
	job, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	if err != nil {
		t.Fatal(err)
	}
	s := w.awaitJob(job.ID).Servers[0]
	if s.Status != protocol.StepFailed || s.Problem == nil || s.Problem.Code != protocol.ProblemFence {
		t.Errorf("got %+v", s)
	}
	w.awaitState(protocol.ReadyForTest)
	if r := w.server().Record; r.Fence || r.Cutover != nil {
		t.Errorf("after the failed fence: fence wanted %v, cutover %+v", r.Fence, r.Cutover)
	}
}

func TestAFailedPointIsTakenAnew(t *testing.T) {
	w := newWorld(t)
	w.failing = 2
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	wantSucceeded(t, job)
	if got := job.Servers[0].Steps[0].Attempts; got != 3 {
		t.Errorf("the point was taken in %d attempts, want 3", got)
	}
	points, err := ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: "web-1"})
	if err != nil || len(points) != 3 || points[0].State != protocol.PointComplete || points[1].State != protocol.PointLost {
		t.Errorf("got points %+v, %v", points, err)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTerminate).ID))
	want := map[string]int{cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 2}
	if diff := cmp.Diff(want, w.cloud.left()); diff != "" {
		t.Errorf("what is left after the termination (-want +got):\n%s", diff)
	}
}

// TestAServerThatIsNotFinalizedStays: without its settings nobody could end its replica.
func TestAServerThatIsNotFinalizedStays(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	remove := func() error {
		_, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{})
		return err
	}
	job := w.start(protocol.JobTest)
	if err := remove(); !isProblem(err) || !strings.Contains(err.Error(), job.ID) {
		t.Errorf("removed while a job works on it: got %v", err)
	}
	wantSucceeded(t, w.awaitJob(job.ID))
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	if err := remove(); !isProblem(err) || !strings.Contains(err.Error(), "finalized") {
		t.Errorf("removed between cutover and finalization: got %v", err)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobFinalize).ID))
	if s := w.server(); s.Record.Wanted != protocol.WantDisconnect || s.Next != "nothing: the migration is complete" {
		t.Errorf("after the end: wanted %q, next %q", s.Record.Wanted, s.Next)
	}
	if err := remove(); err != nil {
		t.Errorf("removed after the finalization: got %v", err)
	}
	w.awaitState(protocol.Disconnected)
	if s := w.server(); s.Record.Wanted != protocol.WantDisconnect || s.Next != "nothing: the migration is complete" {
		t.Errorf("after the removal: wanted %q, next %q", s.Record.Wanted, s.Next)
	}
	if diff := cmp.Diff(map[string]int{cloud.RoleTarget: 1}, w.cloud.left()); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

// TestTwoJobsAtOnceAreOne starts jobs of one wave at the same moment.
func TestTwoJobsAtOnceAreOne(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	var started atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest}
			if _, err := bus.Request[protocol.StartRequest, protocol.Job](t.Context(), w.operator, protocol.OperatorSubject(protocol.VerbStart, "test"), req); err == nil {
				started.Add(1)
			} else if !isProblem(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := started.Load(); n != 1 {
		t.Errorf("%d jobs were started", n)
	}
}

// TestAReplicaDoesNotStandStillForLong refuses snapshots for longer than a replica may wait for
// them: the point fails, the replica goes on, and what the cloud made of it late is deleted.
func TestAReplicaDoesNotStandStillForLong(t *testing.T) {
	w := newWorld(t)
	w.taken = 200 * time.Millisecond
	w.cloud.refusing = true
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	job := w.start(protocol.JobTest)
	points := func() []protocol.Point {
		all, err := ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: "web-1"})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	var lost protocol.Point
	w.await("a point that failed", func() bool {
		all := points()
		if len(all) == 0 || all[len(all)-1].State != protocol.PointLost {
			return false
		}
		lost = all[len(all)-1]
		return true
	})
	if lost.Problem == nil || lost.Problem.Code != protocol.ProblemCloud {
		t.Errorf("got problem %+v", lost.Problem)
	}
	w.await("a replica that goes on", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.held["web-1"].ID != lost.ID
	})
	w.cloud.mu.Lock()
	w.cloud.refusing = false
	w.cloud.snapshot("vol-late", cloud.Tags{
		cloud.TagRole: cloud.RolePointSnapshot, cloud.TagServer: "web-1", cloud.TagPoint: lost.ID, cloud.TagJob: lost.Job,
	})
	w.cloud.mu.Unlock()
	wantSucceeded(t, w.awaitJob(job.ID))
	w.await("the end of the late snapshot", func() bool { return w.cloud.left()[cloud.RolePointSnapshot] == 2 })
}

func TestARemovedServerLeavesNothing(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.apply(protocol.Fleet{})
	w.awaitState(protocol.Disconnected)
	w.await("an empty cloud", func() bool { return len(w.cloud.left()) == 0 })
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.await("the server's record", func() bool { return w.server().Record.Name != "" })
	_, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest})
	if !isProblem(err) || !strings.Contains(err.Error(), "initial sync is not complete") {
		t.Errorf("a test before the sync: got %v", err)
	}
	_, err = ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, protocol.StartRequest{Selection: protocol.Selection{Wave: "two"}, Kind: protocol.JobTest})
	if !isProblem(err) || !strings.Contains(err.Error(), `no wave "two"`) {
		t.Errorf("an unknown wave: got %v", err)
	}
	_, err = ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: w.fleet(), Hash: "0123"})
	if !isProblem(err) || !strings.Contains(err.Error(), "stale") {
		t.Errorf("a stale plan: got %v", err)
	}
	w.apply(w.fleet())
	plan, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: w.fleet()})
	if err != nil || len(plan.Changes) != 0 {
		t.Errorf("planning what is applied: got %+v, %v", plan, err)
	}
}

// ownBus runs a controller with its own bus in dir, as in production, until stop is called.
func ownBus(t *testing.T, dir, listen string) (at protocol.Bus, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan protocol.Bus, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Config{Dir: dir, Listen: listen}, Deps{
			Logger: hclog.NewNullLogger(), Cloud: newMemoryCloud(), Ready: func(at protocol.Bus) { ready <- at },
		})
	}()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the controller ended with %v", err)
		}
	}
	select {
	case at = <-ready:
	case err := <-ended:
		t.Fatalf("the controller ended: %v", err)
	}
	return at, stop
}

func TestATokenIsGoodForOneKey(t *testing.T) {
	dir := t.TempDir()
	at, stop := ownBus(t, dir, "127.0.0.1:0")
	defer stop()
	local, err := bus.LoadContext(filepath.Join(dir, "operator.json"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(t.Context(), local, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	subject := protocol.OperatorSubject(protocol.VerbToken, local.Identity.Name)
	reply, err := bus.Request[protocol.TokenRequest, protocol.TokenReply](t.Context(), nc, subject, protocol.TokenRequest{Role: protocol.RoleAgent, Name: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = bus.Request[protocol.TokenRequest, protocol.TokenReply](t.Context(), nc, subject, protocol.TokenRequest{Name: "web-1", TTL: 2 * time.Hour}); !isProblem(err) {
		t.Errorf("a token for two hours: got %v", err)
	}
	id, err := bus.Enrol(t.Context(), at, reply.Token, protocol.RoleAgent, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Enrol(t.Context(), at, reply.Token, protocol.RoleAgent, "web-1"); err == nil || !strings.Contains(err.Error(), "used before") {
		t.Errorf("the second use of a token: got %v", err)
	}
	agent, err := bus.Connect(t.Context(), bus.Context{Bus: at, Identity: id}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	order, err := bus.Request[protocol.AgentReport, protocol.AgentOrder](t.Context(), agent, protocol.AgentReportSubject("web-1"), protocol.AgentReport{Server: "web-1"})
	if err != nil || order.Problem == nil || order.Problem.Code != protocol.ProblemUnknown {
		t.Errorf("the order for an agent that nobody configured: %+v, %v", order, err)
	}
	_, err = bus.Request[protocol.AgentReport, protocol.AgentOrder](t.Context(), agent, protocol.AgentReportSubject("web-1"), protocol.AgentReport{Server: "web-2"})
	if p, ok := errors.AsType[*protocol.Problem](err); !ok || p.Code != protocol.ProblemNotAllowed {
		t.Errorf("a report in another's name: got %v", err)
	}
}
