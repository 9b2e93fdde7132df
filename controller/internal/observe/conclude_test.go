package observe

import (
	"testing"
	"time"

	"rehost/protocol"
)

func TestConclude(t *testing.T) {
	running := protocol.Server{Name: "web-1", Generation: "g", Wanted: protocol.WantReplicate}
	for _, tt := range []struct {
		name string
		view View
		want protocol.Replication
		code protocol.ProblemCode
	}{
		{"never seen", View{AgentAge: time.Minute}, protocol.ReplicationStopped, ""},
		{"staging", View{AgentKnown: true}, protocol.ReplicationInitiating, ""},
		{"as the agent says", View{Record: running, AgentKnown: true, Agent: protocol.AgentReport{Replication: protocol.ReplicationBacklog}}, protocol.ReplicationBacklog, ""},
		{"not begun yet", View{Record: running, AgentKnown: true, Agent: protocol.AgentReport{Replication: protocol.ReplicationStopped}}, protocol.ReplicationInitiating, ""},
		{"stopped", View{Record: protocol.Server{Wanted: protocol.WantStop}, AgentKnown: true, Agent: protocol.AgentReport{Replication: protocol.ReplicationStopped}}, protocol.ReplicationStopped, ""},
		{"silent agent", View{Record: running, AgentAge: time.Minute}, protocol.ReplicationDisconnected, protocol.ProblemAgentUnreachable},
		{"silent replica", View{Record: running, AgentKnown: true, ReplicaAge: time.Minute}, protocol.ReplicationStalled, protocol.ProblemReplicaUnreachable},
		{"two agents", View{Record: running, AgentKnown: true, Twins: &protocol.Problem{Code: protocol.ProblemConflict}}, protocol.ReplicationStalled, protocol.ProblemConflict},
		{"held", View{Record: running, AgentKnown: true, Snapshot: true}, protocol.ReplicationSnapshot, ""},
		{"just restarted", View{Record: running}, protocol.ReplicationInitiating, ""},
		{"finalized", View{Record: protocol.Server{Finalized: time.Now()}, AgentAge: time.Hour}, protocol.ReplicationDisconnected, ""},
	} {
		tt.view.LostAfter, tt.view.ReplicaLost = 15*time.Second, 15*time.Second
		got, problem := Conclude(tt.view)
		var code protocol.ProblemCode
		if problem != nil {
			code = problem.Code
		}
		if got != tt.want || code != tt.code {
			t.Errorf("%s: got %s %q, want %s %q", tt.name, got, code, tt.want, tt.code)
		}
	}
}

func TestTwoAgentsOfOneIdentityAreNoticedAndARestartIsNot(t *testing.T) {
	r := NewReports()
	put := func(instances ...string) {
		for _, i := range instances {
			r.PutAgent(protocol.AgentReport{Server: "web-1", Instance: i, Host: protocol.Host{Hostname: "host-" + i}})
		}
	}
	put("a", "a", "b", "b", "c")
	if p := r.Twins("web-1"); p != nil {
		t.Fatalf("restarts: %v", p)
	}
	put("b")
	if p := r.Twins("web-1"); p == nil || p.Code != protocol.ProblemConflict || p.Hint == "" {
		t.Fatalf("two agents: %v", p)
	}
}
