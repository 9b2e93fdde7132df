package controller

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/internal/bus"
	"rehost/protocol"
)

// TestARevokedAgentIsCutOff and stays so when the controller starts again; another agent, and a new token, are let in.
func TestARevokedAgentIsCutOff(t *testing.T) {
	dir := t.TempDir()
	at, stop := ownBus(t, dir, "127.0.0.1:0")
	operator := operatorOf(t, dir)
	if _, err := bus.Request[protocol.ApplyRequest, protocol.Plan](t.Context(), operator, protocol.OperatorSubject(protocol.VerbApply, "local"), protocol.ApplyRequest{Fleet: (&world{}).three()}); err != nil {
		t.Fatal(err)
	}
	records := func() int {
		s, err := bus.Request[protocol.StatusRequest, protocol.Status](t.Context(), operator, protocol.OperatorSubject(protocol.VerbStatus, "local"), protocol.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return len(s.Servers)
	}
	for deadline := time.Now().Add(30 * time.Second); records() < 3 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	enrol := func(server string) bus.Context {
		subject := protocol.OperatorSubject(protocol.VerbToken, "local")
		reply, err := bus.Request[protocol.TokenRequest, protocol.TokenReply](t.Context(), operator, subject, protocol.TokenRequest{Role: protocol.RoleAgent, Name: server})
		if err != nil {
			t.Fatal(err)
		}
		id, err := bus.Enrol(t.Context(), at, reply.Token, protocol.RoleAgent, server)
		if err != nil {
			t.Fatal(err)
		}
		return bus.Context{Bus: at, Identity: id}
	}
	first, other := enrol("web-1"), enrol("web-2")
	agent := connect(t, first)
	defer agent.Close()
	revoke := protocol.ChangeRequest{Selection: protocol.Selection{Servers: []string{"web-1", "web-3"}}, Action: protocol.ActionRevoke, Reason: "the host was broken into"}
	changed, err := bus.Request[protocol.ChangeRequest, []protocol.Changed](t.Context(), operator, protocol.OperatorSubject(protocol.VerbChange, "local"), revoke)
	if err != nil || len(changed) != 2 || changed[0].Problem != nil || changed[1].Problem == nil || !strings.Contains(changed[1].Problem.Message, "has not enrolled") {
		t.Fatalf("got %+v, %v", changed, err)
	}
	refused := func(when string) {
		t.Helper()
		nc, err := bus.Connect(t.Context(), first, hclog.NewNullLogger())
		if err == nil {
			nc.Close()
		}
		if !errors.Is(err, nats.ErrAuthorization) && (err == nil || !strings.Contains(strings.ToLower(err.Error()), "authori")) {
			t.Errorf("%s: a revoked agent connects: %v", when, err)
		}
		connect(t, other).Close()
	}
	for deadline := time.Now().Add(30 * time.Second); agent.IsConnected() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if agent.IsConnected() {
		t.Error("the revoked agent is still connected")
	}
	refused("at once")
	connect(t, enrol("web-1")).Close()
	operator.Close()
	stop()
	_, stop = ownBus(t, dir, strings.TrimPrefix(at.Servers[0], "tls://"))
	defer stop()
	refused("after a restart")
}

func operatorOf(t *testing.T, dir string) *nats.Conn {
	t.Helper()
	local, err := bus.LoadContext(filepath.Join(dir, "operator.json"))
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, local)
}

func connect(t *testing.T, at bus.Context) *nats.Conn {
	t.Helper()
	nc, err := bus.Connect(t.Context(), at, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return nc
}
