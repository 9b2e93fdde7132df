package controller

import (
	"strings"
	"testing"

	"rehost/protocol"
)

func (w *world) preflight(req protocol.PreflightRequest) []protocol.Preflight {
	w.t.Helper()
	found, err := ask[protocol.PreflightRequest, []protocol.Preflight](w, protocol.VerbPreflight, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// What a survey found is shown, keeps a test from being started, and gives way to a reason, which is recorded.
func TestCriticalFindingsBlockAJob(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.mu.Lock()
	w.findings = []protocol.Finding{
		{Severity: protocol.SeverityWarning, Code: protocol.FindingFstabNetwork, Message: "an NFS mount"},
		{Severity: protocol.SeverityCritical, Code: protocol.FindingSpace, Message: "/boot is full", Hint: "free some space"},
	}
	w.mu.Unlock()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.await("the survey", func() bool { return !w.preflight(protocol.PreflightRequest{})[0].Pending })
	if found := w.preflight(protocol.PreflightRequest{Servers: []string{"web-1"}}); len(found) != 1 || len(found[0].Findings) != 2 || found[0].Findings[0].Code != protocol.FindingSpace {
		t.Errorf("got %+v, want the critical finding first", found)
	}
	if n := w.server().Findings; n != (protocol.FindingCount{Critical: 1, Warnings: 1}) {
		t.Errorf("the status counts %+v", n)
	}
	plan, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: w.fleet()})
	if err != nil || len(plan.Findings) != 1 || protocol.CountFindings(plan.Findings[0].Findings) != (protocol.FindingCount{Critical: 1, Warnings: 1}) {
		t.Errorf("the plan's findings are %+v, %v", plan.Findings, err)
	}
	req := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobTest}
	if _, err = ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req); !isProblem(err) || !strings.Contains(err.Error(), "/boot is full (no-space)") {
		t.Errorf("a test of such a server: got %v", err)
	}
	req.Force = "we watch it fail"
	job, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	if err != nil || job.Force != req.Force {
		t.Errorf("forced: got %q, %v", job.Force, err)
	}
	if _, err := ask[protocol.PreflightRequest, []protocol.Preflight](w, protocol.VerbPreflight, protocol.PreflightRequest{Servers: []string{"web-9"}}); !isProblem(err) {
		t.Errorf("an unknown server: got %v", err)
	}
	wantSucceeded(t, w.awaitJob(job.ID))
}

// Mended on the source, and looked at anew: the operator does not wait for the next hour.
func TestAFreshSurveyIsOrdered(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.mu.Lock()
	w.findings = []protocol.Finding{{Severity: protocol.SeverityCritical, Code: protocol.FindingSpace, Message: "/boot is full"}}
	w.mu.Unlock()
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	w.mu.Lock()
	w.findings = []protocol.Finding{}
	w.mu.Unlock()
	if found := w.preflight(protocol.PreflightRequest{Fresh: true}); !found[0].Pending {
		t.Errorf("ordered just now, and not pending: %+v", found)
	}
	w.await("the new survey", func() bool { return !w.preflight(protocol.PreflightRequest{})[0].Pending })
	if found := w.preflight(protocol.PreflightRequest{}); len(found[0].Findings) != 0 {
		t.Errorf("got %+v, want nothing", found[0].Findings)
	}
}
