package observe

import (
	"fmt"
	"slices"
	"time"

	"rehost/protocol"
)

const (
	// twinsFor is how long two agents of one identity count as running after they were last heard in turn.
	twinsFor = 30 * time.Second
	keptPast = 8
)

// twins notices that two processes report as one server. One that restarts never comes back under its old name.
type twins struct {
	past  []string  // processes that another one has followed, newest last
	heard time.Time // when one of those was heard again
	host  string    // where it said that it runs
}

// follow notes that a report came after the one that was seen before.
func (t twins) follow(old, report protocol.AgentReport, now time.Time) twins {
	if old.Instance == "" || old.Instance == report.Instance {
		return t
	}
	if slices.Contains(t.past, report.Instance) {
		t.heard, t.host = now, old.Host.Hostname
	}
	if !slices.Contains(t.past, old.Instance) {
		t.past = append(slices.Clone(t.past[max(0, len(t.past)-keptPast+1):]), old.Instance)
	}
	return t
}

// Twins returns a problem when two agents report as one server: each would put its own disks' content on the replica.
func (r *Reports) Twins(server string) *protocol.Problem {
	r.mu.Lock()
	s := r.agents[server]
	r.mu.Unlock()
	if s.twins.heard.IsZero() || time.Since(s.twins.heard) > twinsFor {
		return nil
	}
	return &protocol.Problem{
		Code: protocol.ProblemConflict, Server: server, At: s.twins.heard,
		Message: fmt.Sprintf("two agents report as %s, from %s and %s: replication is paused", server, s.twins.host, s.report.Host.Hostname),
		Hint:    "stop the one that is not " + server + ", such as that of a clone of its disk: rehost-agent remove; the other one goes on by itself",
	}
}
