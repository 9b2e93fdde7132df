package controller

import (
	"strings"
	"testing"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// TestATargetThatDiesAfterTheCommit: what is left of the server is kept until somebody says otherwise, and the way back and a second cutover are open.
func TestATargetThatDiesAfterTheCommit(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	w.awaitState(protocol.CuttingOver)
	lost := w.server().Record.Cutover.Instance
	if err := w.cloud.TerminateInstance(t.Context(), lost, nil); err != nil {
		t.Fatal(err)
	}
	finalize := protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobFinalize}
	_, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, finalize)
	if !isProblem(err) || !strings.Contains(err.Error(), "the target of web-1, "+lost+", is no more") {
		t.Fatalf("finalized without a target: %v", err)
	}
	if left := w.cloud.left(); left[cloud.RoleStagingVolume] != 2 {
		t.Errorf("the replica's volumes: %v", left)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobRevert).ID))
	w.awaitFences(true, false)
	w.awaitState(protocol.ReadyForCutover)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	wantSucceeded(t, w.awaitJob(w.startOf(finalize).ID))
}
