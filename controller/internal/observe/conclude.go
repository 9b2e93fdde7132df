package observe

import (
	"fmt"
	"time"

	"rehost/protocol"
)

// View is what is known of one server when its replication is judged.
type View struct {
	Record      protocol.Server
	Agent       protocol.AgentReport
	AgentAge    time.Duration // since its last report
	AgentKnown  bool          // it has reported to this process
	ReplicaAge  time.Duration
	Twins       *protocol.Problem // two agents report as this server
	Replacing   string            // why its replication server is being replaced; empty: it is not
	Snapshot    bool              // a point is held or its snapshots are being made
	LostAfter   time.Duration     // a silence longer than this counts as gone
	ReplicaLost time.Duration
}

// Conclude returns the state of a server's replication, and the problem when it is not as it should be.
func Conclude(v View) (protocol.Replication, *protocol.Problem) {
	r := v.Record
	if !r.Finalized.IsZero() || r.Lifecycle == protocol.Disconnected || r.Wanted == protocol.WantDisconnect {
		return protocol.ReplicationDisconnected, nil
	}
	if r.Wanted == protocol.WantStop {
		return protocol.ReplicationStopped, nil
	}
	if v.AgentAge > v.LostAfter {
		if r.Generation == "" {
			return protocol.ReplicationStopped, nil
		}
		return protocol.ReplicationDisconnected, &protocol.Problem{
			Code: protocol.ProblemAgentUnreachable, Server: r.Name,
			Message: fmt.Sprintf("the agent of %s has not been heard of for %s", r.Name, v.AgentAge.Round(time.Second)),
			Hint:    "look on the source: systemctl status rehost-agent; it needs the bus's port only",
		}
	}
	if v.Twins != nil {
		return protocol.ReplicationStalled, v.Twins
	}
	if r.Wanted != protocol.WantReplicate && r.Wanted != protocol.WantPause {
		return protocol.ReplicationInitiating, r.Problem
	}
	if v.Replacing != "" {
		return protocol.ReplicationStalled, &protocol.Problem{
			Code: protocol.ProblemReplicaUnreachable, Server: r.Name, Message: v.Replacing + "; another one takes over",
			Hint: "nothing is to be done: replication goes on from the checkpoint; rehost status shows the step",
		}
	}
	if v.ReplicaAge > v.ReplicaLost {
		return protocol.ReplicationStalled, &protocol.Problem{
			Code: protocol.ProblemReplicaUnreachable, Server: r.Name,
			Message: fmt.Sprintf("replication server %s has not been heard of for %s", r.Replica, v.ReplicaAge.Round(time.Second)),
			Hint:    "look at its instance's state and console in the cloud",
		}
	}
	if !v.AgentKnown {
		return protocol.ReplicationInitiating, nil
	}
	if v.Snapshot {
		return protocol.ReplicationSnapshot, nil
	}
	if v.Agent.Replication == "" || v.Agent.Replication == protocol.ReplicationStopped { // it has not taken up its order yet
		return protocol.ReplicationInitiating, nil
	}
	return v.Agent.Replication, nil
}
