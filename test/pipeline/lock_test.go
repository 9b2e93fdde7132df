package pipeline

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/agent"
	"rehost/internal/lock"
	"rehost/protocol"
	"rehost/replicaserver"
)

func TestTwoProcessesOfOneRoleDoNotRunAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4<<20)
	replica := w.startReplica()
	a := w.startAgent(false)
	w.awaitContinuous()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	opened := false
	err := agent.Run(short, w.agentConfig(), agent.Deps{Logger: w.log, Open: func(context.Context, agent.Config, hclog.Logger) (*agent.Source, error) {
		opened = true
		return nil, errors.New("opened")
	}})
	if !errors.Is(err, lock.ErrHeld) || opened {
		t.Errorf("a second agent: %v, tracker opened %v", err, opened)
	}
	if err := replicaserver.Run(short, w.replicaConfig("http://127.0.0.1:1"), replicaserver.Deps{Logger: w.log}); !errors.Is(err, lock.ErrHeld) {
		t.Errorf("a second replication server: %v", err)
	}
	if err := errors.Join(a.stop(), replica.stop()); err != nil {
		t.Fatal(err)
	}
	w.startReplica()
	w.startAgent(true)
	w.mu.Lock()
	w.agent = protocol.AgentReport{} // of before
	w.mu.Unlock()
	w.awaitContinuous()
}
