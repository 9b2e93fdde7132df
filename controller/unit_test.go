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

// two is the chain of three servers in one application, and a server of another one that comes after it.
func (w *world) two() protocol.Fleet {
	f := w.chain()
	f.Servers = append(f.Servers, protocol.ServerSettings{Name: "mx-1", Replication: "default", Launch: "web", Checks: []string{"page", "login"}, Fence: "hook"})
	f.Applications = append(f.Applications, protocol.ApplicationSettings{Name: "mail", Servers: []string{"mx-1"}})
	f.Waves[0].Applications = []string{"shop", "mail"}
	return f
}

// twoTested brings them to where tests of all have passed.
func (w *world) twoTested() {
	w.t.Helper()
	w.apply(w.two())
	for _, s := range w.two().Servers {
		w.agent(s.Name)
	}
	w.awaitEach(protocol.ReadyForTest)
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	if got, want := outcomes(job), "web-3 SUCCEEDED, web-2 SUCCEEDED, web-1 SUCCEEDED, mx-1 SUCCEEDED"; got != want && strings.Count(got, "SUCCEEDED") != 4 {
		w.t.Fatalf("got %s, want %s", got, want)
	}
	w.awaitEach(protocol.ReadyForCutover)
}

func (w *world) records() []protocol.Server {
	w.t.Helper()
	s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []protocol.Server
	for _, s := range s.Servers {
		out = append(out, s.Record)
	}
	return out
}

func (w *world) awaitEach(want protocol.Lifecycle) {
	w.t.Helper()
	w.await("all "+string(want), func() bool {
		all := w.records()
		return len(all) == 4 && !slices.ContainsFunc(all, func(r protocol.Server) bool { return r.Lifecycle != want })
	})
}

// decided is what became of a job's applications.
func decided(job protocol.Job) map[string]protocol.Outcome {
	out := map[string]protocol.Outcome{}
	for _, a := range job.Applications {
		out[a.Name] = a.Outcome
	}
	return out
}

func stepOf(job protocol.Job, server, step string) protocol.JobStep {
	for _, s := range job.Servers {
		for _, st := range s.Steps {
			if s.Server == server && st.Name == step {
				return st
			}
		}
	}
	return protocol.JobStep{}
}

// TestAnApplicationIsCutOverAsOne: all sources are fenced before one point of all, and they are launched in their order. make crash kills the controller
// in the midst of it.
func TestAnApplicationIsCutOverAsOne(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.twoTested()
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	if diff := cmp.Diff(map[string]protocol.Outcome{"shop": protocol.OutcomeCommitted, "mail": protocol.OutcomeCommitted}, decided(job)); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%s", diff, outcomes(job))
	}
	points := map[string]bool{}
	for _, s := range job.Servers {
		points[s.Data["point"]] = true
	}
	if len(points) != 2 {
		t.Errorf("each application takes one point, and there are: %v", points)
	}
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		for _, other := range []string{"web-1", "web-2", "web-3"} {
			if stepOf(job, name, "point").Started.Before(stepOf(job, other, "fence").Ended) {
				t.Errorf("the point of %s was begun before %s was fenced", name, other)
			}
			if stepOf(job, name, "commit").Started.Before(stepOf(job, other, "check").Ended) {
				t.Errorf("%s was committed before %s was checked", name, other)
			}
		}
	}
	for name, before := range map[string]string{"web-1": "web-2", "web-2": "web-3"} {
		if stepOf(job, name, "launch").Started.Before(stepOf(job, before, "check").Ended) {
			t.Errorf("%s was launched before %s was checked", name, before)
		}
	}
	w.awaitEach(protocol.CuttingOver)
}

// TestAnApplicationIsRolledBackAsOne has a server fail: its application goes back as it was, what does not depend on it is committed, and what failed
// is cut over later, by the same wave. The controller is killed at each record of a server.
func TestAnApplicationIsRolledBackAsOne(t *testing.T) {
	w := newWorld(t)
	m := w.mortal()
	w.twoTested()
	w.cloud.mu.Lock()
	w.cloud.brokenFor = "web-2"
	w.cloud.mu.Unlock()
	w.awaitJob(w.start(protocol.JobTerminate).ID)
	w.watch(m.kill, protocol.BucketServers)
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	m.end()
	defer w.controller(t.Context())()
	if diff := cmp.Diff(map[string]protocol.Outcome{"shop": protocol.OutcomeRolledBack, "mail": protocol.OutcomeCommitted}, decided(job)); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%s", diff, outcomes(job))
	}
	for name, want := range map[string]protocol.StepStatus{"web-1": protocol.StepCancelled, "web-2": protocol.StepFailed, "web-3": protocol.StepCancelled, "mx-1": protocol.StepSucceeded} {
		i := slices.IndexFunc(job.Servers, func(s protocol.JobServer) bool { return s.Server == name })
		if s := job.Servers[i]; s.Status != want {
			t.Errorf("%s is %s, want %s", name, s.Status, want)
		}
		if st := stepOf(job, name, "unfence"); (st.Status == protocol.StepSucceeded) != (name != "mx-1") {
			t.Errorf("the release of %s is %s", name, st.Status)
		}
	}
	why := slices.IndexFunc(job.Log, func(e protocol.JobEvent) bool { return e.Event == protocol.EventRollback })
	if why < 0 || job.Log[why].Application != "application shop" || job.Log[why].Detail != "web-2 failed at convert: no kernel found" {
		t.Errorf("the log does not say why: %+v", job.Log)
	}
	for _, r := range w.records() {
		if want := r.Name == "mx-1"; r.Fence != want || (r.Cutover != nil) != want || r.Job != "" {
			t.Errorf("%s: fence %v, cutover %+v, job %q", r.Name, r.Fence, r.Cutover, r.Job)
		}
	}
	want := map[string]int{
		cloud.RoleReplicaServer: 1, cloud.RoleStagingVolume: 8, cloud.RolePointSnapshot: 2, cloud.RoleConvertedSnapshot: 1, cloud.RoleImage: 1, cloud.RoleTarget: 1,
	}
	if diff := cmp.Diff(want, w.cloud.left()); diff != "" {
		t.Errorf("what there is of the cutover, mail's only (-want +got):\n%s", diff)
	}
	w.cloud.mu.Lock()
	w.cloud.brokenFor = ""
	w.cloud.mu.Unlock()
	// The wave once more: what is cut over stays as it is.
	job = w.awaitJob(w.start(protocol.JobCutover).ID)
	if got := decided(job)["shop"]; got != protocol.OutcomeCommitted {
		t.Errorf("the second attempt: shop is %s; %s", got, outcomes(job))
	}
	w.awaitEach(protocol.CuttingOver)
}

// TestTheDeadlineRollsBack has a check that never passes: at the deadline the application goes back, what comes after it is left out, and no source
// stays fenced. A deadline that the cutover is not predicted to keep is refused with the number.
func TestTheDeadlineRollsBack(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.twoTested()
	f := w.two()
	f.Applications[1].After = []string{"shop"}
	f.Checks = append(f.Checks, protocol.CheckSettings{Name: "never", Kind: "console", Contains: "what is never shown", Timeout: time.Hour})
	f.Servers[0].Checks = []string{"never"}
	w.apply(f)
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover, Deadline: time.Now().Add(time.Second)}
	if _, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "predicted to take") {
		t.Errorf("a deadline that is too near: got %v", err)
	}
	req.Deadline, req.Force = time.Now().Add(5*time.Second), "it will do"
	job := w.awaitJob(w.startOf(req).ID)
	if diff := cmp.Diff(map[string]protocol.Outcome{"shop": protocol.OutcomeRolledBack, "mail": protocol.OutcomeLeftOut}, decided(job)); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%s", diff, outcomes(job))
	}
	for _, a := range job.Applications {
		if !strings.HasPrefix(a.Why, "the deadline ") || !strings.Contains(a.Why, " are kept for the way back") {
			t.Errorf("%s: %q", a.Name, a.Why)
		}
	}
	for _, r := range w.records() {
		if r.Fence || r.Cutover != nil || r.Job != "" || r.Lifecycle != protocol.ReadyForCutover {
			t.Errorf("%s: fence %v, cutover %+v, job %q, %s", r.Name, r.Fence, r.Cutover, r.Job, r.Lifecycle)
		}
	}
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		t.Logf("%s was writable %s after the decision", name, stepOf(job, name, "unfence").Ended.Sub(job.Applications[0].Decided))
	}
}

// TestNothingIsCommittedBehindAFenceThatHasEnded: the last agent that is asked to keep its fence has let its writers go, when all is checked.
func TestNothingIsCommittedBehindAFenceThatHasEnded(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.twoTested()
	w.mu.Lock()
	w.lapsing = "web-2"
	w.mu.Unlock()
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	if diff := cmp.Diff(map[string]protocol.Outcome{"shop": protocol.OutcomeRolledBack, "mail": protocol.OutcomeCommitted}, decided(job)); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%s", diff, outcomes(job))
	}
	if a := job.Applications[0]; !strings.Contains(a.Why+job.Applications[1].Why, "the fence of web-2 has ended by itself") {
		t.Errorf("it is not said why: %+v", job.Applications)
	}
	for _, r := range w.records() {
		if want := r.Name == "mx-1"; r.Fence != want || r.FenceKeep != want || (r.Cutover != nil) != want {
			t.Errorf("%s: fence %v, kept %v, cutover %+v", r.Name, r.Fence, r.FenceKeep, r.Cutover)
		}
	}
}

// TestACommitWaitsForTheAgentsWord: the controller restarts when all is checked and the agent is away. Not to have heard of it is no reason to do
// without its promise.
func TestACommitWaitsForTheAgentsWord(t *testing.T) {
	w := newWorld(t)
	stop := w.controller(t.Context())
	w.tested()
	w.cloud.setBooting(true)
	f := w.fleet()
	f.Checks[1].Timeout = time.Minute
	w.apply(f)
	id := w.start(protocol.JobCutover).ID
	w.await("the checks", func() bool { return stepOf(w.newestJob(), "web-1", "check").Status == protocol.StepInProgress })
	w.setMute("web-1", true)
	w.cloud.setBooting(false)
	w.await("the commit to wait", func() bool { return stepOf(w.newestJob(), "web-1", "keep").Status == protocol.StepInProgress })
	stop()
	defer w.controller(t.Context())()
	for range 20 { // of a job that is taken up at once
		if got := decided(w.newestJob())["shop"]; got != "" {
			t.Fatalf("%s without the agent's word", got)
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.setMute("web-1", false)
	job := w.awaitJob(id)
	if st := stepOf(job, "web-1", "keep"); st.Status != protocol.StepSucceeded || decided(job)["shop"] != protocol.OutcomeCommitted {
		t.Errorf("the agent's word: %s %s; %v", st.Status, st.Detail, decided(job))
	}
}

// TestAnAbortAtTheCommitIsOneOrTheOther cancels cutovers between the promise of the fences and the end: an application is rolled back, with all of its sources
// released, or it stays committed, with none. While a promise is missing it is the former.
func TestAnAbortAtTheCommitIsOneOrTheOther(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.twoTested()
	w.awaitJob(w.start(protocol.JobTerminate).ID)
	count := map[protocol.Outcome]int{}
	for n := range 12 {
		req := protocol.StartRequest{Selection: protocol.Selection{Application: "shop"}, Kind: protocol.JobCutover}
		id := w.startOf(req).ID
		if n == 0 {
			w.await("the checks", func() bool { return stepOf(w.newestJob(), "web-2", "launch").Status != protocol.StepNotStarted })
			w.setMute("web-2", true)
		}
		w.await("the promises", func() bool { return stepOf(w.newestJob(), "web-1", "keep").Status != protocol.StepNotStarted })
		time.Sleep(time.Duration(n) * 3 * time.Millisecond)
		_, err := ask[protocol.CancelRequest, protocol.Job](w, protocol.VerbCancel, protocol.CancelRequest{ID: id, Reason: "no"})
		if err != nil && !strings.Contains(err.Error(), "is over") {
			t.Fatal(err)
		}
		w.setMute("web-2", false)
		job := w.awaitJob(id)
		outcome := decided(job)["shop"]
		count[outcome]++
		if n == 0 && outcome != protocol.OutcomeRolledBack || outcome != protocol.OutcomeRolledBack && outcome != protocol.OutcomeCommitted {
			t.Fatalf("cancelled %d ms after the first promise was asked for: %q; %s", 3*n, outcome, outcomes(job))
		}
		committed := outcome == protocol.OutcomeCommitted
		for _, r := range w.records() {
			if want := committed && r.Name != "mx-1"; r.Fence != want || (r.Cutover != nil) != want || r.Job != "" {
				t.Errorf("%s, cancelled after %d ms: %s has fence %v, cutover %+v, job %q", outcome, 3*n, r.Name, r.Fence, r.Cutover, r.Job)
			}
		}
		left := w.cloud.left()[cloud.RoleTarget]
		if want := map[bool]int{true: 3}[committed]; left != want {
			t.Errorf("%s, cancelled after %d ms: %d targets", outcome, 3*n, left)
		}
		if committed {
			req.Kind = protocol.JobRevert
			if got := outcomes(w.awaitJob(w.startOf(req).ID)); strings.Count(got, "SUCCEEDED") != 3 {
				t.Fatalf("reverted: %s", got)
			}
		}
	}
	t.Logf("%v", count)
}
