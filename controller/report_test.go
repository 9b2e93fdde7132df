package controller

import (
	"strings"
	"testing"

	"rehost/internal/bus"
	"rehost/protocol"
)

// TestAWaveLeavesEvidence cuts a wave over, and compares what its report says with what was asked and predicted.
func TestAWaveLeavesEvidence(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	if _, err := ask[protocol.ReportRequest, protocol.Report](w, protocol.VerbReport, protocol.ReportRequest{Wave: "nowhere"}); err == nil || !strings.Contains(err.Error(), "no job of a wave") {
		t.Errorf("got %v", err)
	}
	plan, err := ask[protocol.RunbookRequest, protocol.Runbook](w, protocol.VerbRunbook, protocol.RunbookRequest{Wave: "one"})
	if err != nil {
		t.Fatal(err)
	}
	subject := protocol.OperatorSubject(protocol.VerbStart, "test")
	job, err := bus.Request[protocol.StartRequest, protocol.Job](bus.WithReason(t.Context(), "CHG-4711"), w.operator, subject, protocol.StartRequest{Kind: protocol.JobCutover, Selection: protocol.Selection{Wave: "one"}})
	if err != nil {
		t.Fatal(err)
	}
	wantSucceeded(t, w.awaitJob(job.ID))
	r, err := ask[protocol.ReportRequest, protocol.Report](w, protocol.VerbReport, protocol.ReportRequest{Wave: "one"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Job != job.ID || r.By != "test" || r.Reason != "CHG-4711" || r.Configuration == nil || len(r.Configuration.Hash) != 64 || r.Status != protocol.JobCompleted {
		t.Errorf("got %+v", r)
	}
	if r.Runbook == nil || len(r.Steps) != len(plan.Steps) || r.Steps[1].Server != "web-1" || r.Steps[1].Status != protocol.StepSucceeded || r.Steps[1].Ended.IsZero() {
		t.Fatalf("got %+v", r.Steps)
	}
	if d := r.Downtimes[0]; d.Of != "server web-1" || d.Predicted != r.Runbook.Downtimes[0].Time || d.Predicted <= 0 || d.Actual <= 0 || d.Error == nil {
		t.Errorf("got %+v", d)
	}
	if s := r.Servers[0]; s.Point == nil || !s.Point.Fenced || s.Outcome != protocol.OutcomeCommitted || len(s.Changes) == 0 {
		t.Errorf("got %+v", s)
	}
	if _, err := ask[protocol.ReportRequest, protocol.Report](w, protocol.VerbReport, protocol.ReportRequest{Wave: "two", Job: job.ID}); err == nil || !strings.Contains(err.Error(), "not of wave two") {
		t.Errorf("of another wave: got %v", err)
	}
}
