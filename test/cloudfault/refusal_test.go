package cloudfault

import (
	"strings"
	"testing"

	"rehost/localcloud"
	"rehost/protocol"
)

// TestRefusalsAreSaidAndOutlived meets what a real cloud refuses: no capacity is waited for, and said meanwhile; a missing
// permission ends the job with the action that is missing, leaves nothing behind, and does no harm to the replica.
func TestRefusalsAreSaidAndOutlived(t *testing.T) {
	faults := localcloud.Faults{Refuse: []localcloud.Refusal{
		{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Times: 30}, {Action: "RegisterImage", Code: "UnauthorizedOperation", Times: 1},
	}}
	w := newWorld(t, faults, &recorder{calls: map[string]int{}})
	w.controller()
	ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: fleet()})
	w.agent()
	w.await("word of the missing capacity", func(s protocol.Status) bool {
		if len(s.Servers) == 0 {
			return false
		}
		p := s.Servers[0].Record.Problem
		return p != nil && strings.Contains(p.Message, "InsufficientInstanceCapacity") && strings.Contains(p.Hint, "instance_type")
	})
	w.awaitState(protocol.ReadyForTest)
	if p := w.status().Servers[0].Record.Problem; p != nil {
		t.Errorf("it is ready, and still has the problem %q", p.Message)
	}
	job := w.end(protocol.JobTest)
	p := job.Servers[0].Problem
	if job.Servers[0].Status != protocol.StepFailed || p == nil || !strings.Contains(p.Message, "UnauthorizedOperation") || !strings.Contains(p.Hint, "ec2:RegisterImage") {
		t.Fatalf("the refused job ended with %s, %+v", job.Servers[0].Status, p)
	}
	w.wantNothingElse("after the job that failed", 1+2)
	w.run(protocol.JobTest)
	w.awaitState(protocol.ReadyForCutover)
}
