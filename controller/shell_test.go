package controller

import (
	"strings"
	"testing"
	"time"

	"rehost/controller/internal/target/targettest"
	"rehost/protocol"
)

// reached is the fleet, with an SSH server for its targets, and checks that work by it.
func (w *world) reached() (protocol.Fleet, *targettest.Server) {
	s := targettest.Start(w.t)
	f := w.fleet()
	f.Launches[0].SSH = &protocol.SSHSettings{User: "root", KeyFile: s.KeyFile, Port: s.Port}
	f.Checks = append(f.Checks, protocol.CheckSettings{Name: "ready", Kind: "ssh", Command: []string{"true"}, Timeout: 30 * time.Second})
	f.Servers[0].Checks = append(f.Servers[0].Checks, "ready")
	return f, s
}

func TestATargetIsAskedBySSH(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f, s := w.reached()
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	wantSucceeded(t, job)
	if got := job.Servers[0].Data["host_key"]; !strings.HasPrefix(got, "ssh-ed25519 ") {
		t.Errorf("the host key that was recorded is %q", got)
	}
	if ran := s.Ran(); len(ran) != 1 || ran[0] != "'true'" {
		t.Errorf("it ran %q", ran)
	}
}

// TestWhatCannotPassEndsAtOnce: the deadline is an hour away, and the test's own is not.
func TestWhatCannotPassEndsAtOnce(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f, _ := w.reached()
	f.Launches[0].SSH.KeyFile += ".none"
	f.Checks[2].Timeout = time.Hour
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	s := w.awaitJob(w.start(protocol.JobTest).ID).Servers[0]
	if s.Problem == nil || !strings.Contains(s.Problem.Message, "check ready of") || !strings.Contains(s.Problem.Message, "cannot pass: read the SSH key") || !strings.Contains(s.Problem.Hint, "key_file") {
		t.Errorf("got %+v", s.Problem)
	}
}

func TestACheckBySSHNeedsAWay(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f, _ := w.reached()
	f.Launches[0].SSH = nil
	_, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: f})
	if !isProblem(err) || !strings.Contains(err.Error(), "check ready works by SSH, and launch web has no ssh block") {
		t.Errorf("got %v", err)
	}
}
