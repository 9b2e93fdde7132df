// Package order derives from the records what an agent and a replication server shall do.
// It is pure, and an order is always the whole of what is wanted, so a lost one costs a period.
package order

import (
	"fmt"

	"rehost/controller/internal/preflight"
	"rehost/controller/internal/staging"
	"rehost/protocol"
)

// Agent is the order for an agent.
func Agent(r protocol.Server, replication protocol.ReplicationSettings, launch protocol.LaunchSettings) protocol.AgentOrder {
	survey := preflight.SurveyOrder(r.Survey, launch)
	o := protocol.AgentOrder{
		Wanted: r.Wanted, Generation: r.Generation, Window: replication.Window, Fence: r.Fence, FenceID: r.FenceID, FenceKeep: r.FenceKeep, Point: r.PointOrder, Verify: r.Verify,
		Survey: &survey,
	}
	return o
}

// Unknown is the order for an agent of a server that is in no record.
func Unknown(server string) protocol.AgentOrder {
	return protocol.AgentOrder{Problem: &protocol.Problem{
		Code: protocol.ProblemUnknown, Server: server, Message: fmt.Sprintf("server %q is not in the applied configuration", server),
		Hint: "add a server block named " + server + " and run rehost apply",
	}}
}

// Replica is the order for a replication server. servers are those on its list, or more; awaited says whether the replica
// of a server shall stand still at a point.
func Replica(name string, servers []protocol.Server, report protocol.ReplicaReport, awaited func(server, point string) bool) protocol.ReplicaOrder {
	out := protocol.ReplicaOrder{Replicas: make([]protocol.ReplicaAssignment, 0, len(servers))}
	for _, r := range servers {
		if r.Replica != name || !staging.Paired(r) {
			continue
		}
		a := protocol.ReplicaAssignment{Server: r.Name, Generation: r.Generation, Stream: r.Stream, Released: []string{}}
		for _, v := range r.Volumes {
			a.Disks = append(a.Disks, protocol.ReplicaVolume{Volume: v.Volume, SizeBytes: v.SizeBytes, Virgin: true})
		}
		for _, s := range report.Replicas {
			if s.Server == r.Name && s.Held != nil && !awaited(r.Name, s.Held.ID) {
				a.Released = append(a.Released, s.Held.ID)
			}
		}
		out.Replicas = append(out.Replicas, a)
	}
	return out
}
