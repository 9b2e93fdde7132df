// Package observe keeps what was last heard of agents and replication servers, in memory
// only, and concludes from it how a server's replication is. After a restart it is empty
// for as long as one reporting period.
package observe

import (
	"maps"
	"slices"
	"sync"
	"time"

	"rehost/protocol"
)

// Reports is what was last heard. It is safe for concurrent use.
type Reports struct {
	started time.Time
	changed chan struct{}

	mu       sync.Mutex
	touched  map[string]bool // servers, since they were last taken
	agents   map[string]agentSeen
	replicas map[string]replicaSeen
}

type agentSeen struct {
	report protocol.AgentReport
	at     time.Time
	sends  bool // it has sent something since the report before
	twins  twins
}

type replicaSeen struct {
	report protocol.ReplicaReport
	at     time.Time
}

// NewReports starts with nothing heard.
func NewReports() *Reports {
	return &Reports{
		started: time.Now(), changed: make(chan struct{}, 1), touched: map[string]bool{},
		agents: map[string]agentSeen{}, replicas: map[string]replicaSeen{},
	}
}

// Changed yields a value after something that decisions may wait for; [Reports.Touched] has of which servers.
func (r *Reports) Changed() <-chan struct{} { return r.changed }

// Touched returns the servers of which something has changed since it was called last.
func (r *Reports) Touched() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := slices.Sorted(maps.Keys(r.touched))
	clear(r.touched)
	return names
}

// Touch says that something has changed of a server, for those who wait for [Reports.Changed].
func (r *Reports) Touch(server string) {
	r.mu.Lock()
	r.touched[server] = true
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// PutAgent keeps an agent's report. A survey that is left out is the one that came before.
func (r *Reports) PutAgent(report protocol.AgentReport) {
	r.mu.Lock()
	seen := r.agents[report.Server]
	old := seen.report
	if report.Survey == nil && report.SurveyID != "" && report.SurveyID == old.SurveyID {
		report.Survey = old.Survey
	}
	r.agents[report.Server] = agentSeen{report, time.Now(), report.Sent > old.Sent, seen.twins.follow(old, report, time.Now())}
	r.mu.Unlock()
	if old.Replication != report.Replication || old.Fenced != report.Fenced || old.Generation != report.Generation || pointsChanged(old.Points, report.Points) {
		r.Touch(report.Server)
	}
}

func pointsChanged(a, b []protocol.PointReport) bool {
	if len(a) != len(b) {
		return true
	}
	for i := range a {
		if a[i].ID != b[i].ID || a[i].State != b[i].State {
			return true
		}
	}
	return false
}

// PutReplica keeps a replication server's report.
func (r *Reports) PutReplica(report protocol.ReplicaReport) {
	now := held(report)
	r.mu.Lock()
	old := held(r.replicas[report.Name].report)
	r.replicas[report.Name] = replicaSeen{report, time.Now()}
	r.mu.Unlock()
	for server, what := range now {
		if old[server] != what {
			r.Touch(server)
		}
	}
	for server := range old {
		if _, ok := now[server]; !ok {
			r.Touch(server)
		}
	}
}

func held(r protocol.ReplicaReport) map[string]string {
	out := map[string]string{}
	for _, s := range r.Replicas {
		out[s.Server] = s.Generation
		if s.Held != nil {
			out[s.Server] += s.Held.ID
		}
	}
	return out
}

// Agent returns an agent's last report and when it came. Without one, at is the start of
// this process: before that, nobody could be heard.
func (r *Reports) Agent(server string) (report protocol.AgentReport, at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.agents[server]; ok {
		return s.report, s.at, true
	}
	return protocol.AgentReport{}, r.started, false
}

// Working says that an agent which was heard of lately has something to send, or has just sent it.
func (r *Reports) Working(server string, lately time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.agents[server]
	if !ok || time.Since(s.at) > lately {
		return false
	}
	for _, d := range s.report.Disks {
		if d.Need > 0 || d.Pending > 0 {
			return true
		}
	}
	return s.sends
}

// ReplicaServer returns a replication server's last report and when it came.
func (r *Reports) ReplicaServer(name string) (report protocol.ReplicaReport, at time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.replicas[name]; ok {
		return s.report, s.at, true
	}
	return protocol.ReplicaReport{}, r.started, false
}

// Replica returns what a replication server last said of one server's replica.
func (r *Reports) Replica(replicaServer, server, generation string) (protocol.ReplicaStatus, bool) {
	report, _, _ := r.ReplicaServer(replicaServer)
	for _, s := range report.Replicas {
		if s.Server == server && s.Generation == generation {
			return s, true
		}
	}
	return protocol.ReplicaStatus{}, false
}

// HeardOfOthers says that an agent, or a replication server other than the named one, was heard of lately.
func (r *Reports) HeardOfOthers(replicaServer string, lately time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.agents {
		if time.Since(s.at) <= lately {
			return true
		}
	}
	for name, s := range r.replicas {
		if name != replicaServer && time.Since(s.at) <= lately {
			return true
		}
	}
	return false
}
