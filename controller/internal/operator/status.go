package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/observe"
	"rehost/controller/internal/point"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// Status joins records with what was last heard.
func (d *Desk) Status(_ context.Context, req protocol.StatusRequest) (protocol.Status, error) {
	out := protocol.Status{At: time.Now(), Servers: []protocol.ServerStatus{}, Waves: []protocol.WaveStatus{}, Replicas: []protocol.ReplicaServer{}, Jobs: []protocol.Job{}}
	servers, err := d.store.Servers.List("")
	if err != nil {
		return out, err
	}
	for _, name := range req.Servers {
		if !slices.ContainsFunc(servers, func(r protocol.Server) bool { return r.Name == name }) {
			return out, unknownServer(name)
		}
	}
	waves := wave.Index(d.store.Applied())
	for _, r := range servers {
		if len(req.Servers) > 0 && !slices.Contains(req.Servers, r.Name) || len(req.Servers) == 0 && !req.Archived && !r.Archived.IsZero() {
			continue
		}
		s, problems, err := d.server(r, waves[r.Name])
		if err != nil {
			return out, err
		}
		out.Servers = append(out.Servers, s)
		out.Problems = append(out.Problems, problems...)
	}
	out.Waves, out.Applications = d.waves(servers), d.applications()
	if out.Replicas, err = d.store.Staging.List(""); err != nil {
		return out, err
	}
	for i := range out.Replicas {
		report, at, ok := d.reports.ReplicaServer(out.Replicas[i].Name)
		if ok {
			out.Replicas[i].LastSeen = at
			out.Problems = append(out.Problems, report.Problems...)
		}
	}
	var failing []protocol.Problem
	if out.Webhooks, failing, err = d.webhooks(out.At); err != nil {
		return out, err
	}
	out.Problems = append(out.Problems, failing...)
	out.Jobs, err = d.jobs()
	return out, err
}

// server tells of one server, which is in the named wave.
func (d *Desk) server(r protocol.Server, inWave string) (protocol.ServerStatus, []protocol.Problem, error) {
	s := protocol.ServerStatus{Record: r}
	points, err := d.store.Points.List(r.Name + ".")
	if err != nil {
		return s, nil, err
	}
	snapshot := false
	for _, pt := range points {
		snapshot = snapshot || (point.Active(pt) && pt.State != protocol.PointOrdered)
		if pt.State == protocol.PointComplete && (s.LastPoint == nil || pt.Taken.After(s.LastPoint.Taken)) {
			s.LastPoint = &pt
		}
	}
	report, at, known := d.reports.Agent(r.Name)
	view := d.viewOf(r)
	view.Snapshot = snapshot
	replication, problem := observe.Conclude(view)
	s.Replication = replication
	var problems []protocol.Problem
	if problem != nil {
		problems = append(problems, *problem)
	}
	if r.Problem != nil && problem != r.Problem {
		problems = append(problems, *r.Problem)
	}
	if known {
		s.Agent, s.LastSeen = &report, at
		problems = append(problems, report.Problems...)
	}
	if status, ok := d.reports.Replica(r.Replica, r.Name, r.Generation); ok {
		s.Replica = &status
		problems = append(problems, status.Problems...)
	}
	stuck := d.stuck(r)
	if stuck != nil {
		problems = append(problems, *stuck)
	}
	s.Waiting = waiting(s, problem, stuck)
	s.Next = next(r, inWave)
	applied := d.store.Applied()
	_, replicated, launch, _ := fleet.Settings(applied, r.Name)
	s.Findings = protocol.CountFindings(d.found(r, replicated, launch).Findings)
	s.Advice = staging.Advice(r, replicated, report)
	return s, problems, nil
}

// viewOf is what is known of a server's replication, but for its points.
func (d *Desk) viewOf(r protocol.Server) observe.View {
	report, at, known := d.reports.Agent(r.Name)
	_, replicaAt, _ := d.reports.ReplicaServer(r.Replica)
	return observe.View{
		Record: r, Agent: report, AgentAge: time.Since(at), AgentKnown: known, ReplicaAge: time.Since(replicaAt),
		Twins: d.reports.Twins(r.Name), Replacing: d.replacing(r), LostAfter: d.cfg.LostAfter, ReplicaLost: d.cfg.ReplicaLost,
	}
}

// Replication concludes the state of a server's replication, but for CREATING_SNAPSHOT, which passes. It is not known while this process
// has neither heard of the server's agent nor waited for it.
func (d *Desk) Replication(r protocol.Server) (state protocol.Replication, known bool) {
	v := d.viewOf(r)
	state, _ = observe.Conclude(v)
	return state, v.AgentKnown || v.AgentAge > v.LostAfter
}

// replacing says why a server's replication server is being replaced, or "".
func (d *Desk) replacing(r protocol.Server) string {
	if rs, err := d.store.Staging.Get(r.Replica); r.Replica != "" && err == nil && !rs.Lost.IsZero() {
		return fmt.Sprintf("replication server %s was given up: %s", rs.Name, rs.Reason)
	}
	if r.Replacing == "" {
		return ""
	}
	for _, i := range r.Initiation {
		if i.Status != protocol.StepSucceeded && i.Status != protocol.StepSkipped {
			return fmt.Sprintf("%s, now at %s %s", r.Replacing, i.Step, i.Detail)
		}
	}
	return r.Replacing
}

// stuck is why the step that works on the server has to run once more, or nil.
func (d *Desk) stuck(r protocol.Server) *protocol.Problem {
	if job, err := d.store.Jobs.Get(r.Job); err == nil {
		return stuckIn(job, r.Name)
	}
	return nil // no job, or one that has no record
}

func stuckIn(job protocol.Job, server string) *protocol.Problem {
	for _, s := range job.Servers {
		for _, step := range s.Steps {
			if s.Server == server && step.Status == protocol.StepInProgress {
				return step.Problem
			}
		}
	}
	return nil
}

// waiting says in words what the server is waiting for.
func waiting(s protocol.ServerStatus, problem, stuck *protocol.Problem) string {
	if problem != nil {
		return problem.Message
	}
	r := s.Record
	if stuck != nil && stuck.Code == protocol.ProblemCredentials {
		return "job " + r.Job + ", which waits for valid credentials: " + stuck.Message
	}
	if r.Move != nil {
		return moving(r)
	}
	if r.Job != "" {
		return "job " + r.Job
	}
	if (!r.Stopped.IsZero() || !r.Disconnect.IsZero()) && r.Generation != "" {
		return "its replica to be removed"
	}
	if s.Agent == nil && r.Wanted != protocol.WantStop && s.Replication == protocol.ReplicationStopped {
		return "the agent's first report"
	}
	switch s.Replication {
	case protocol.ReplicationInitiating:
		for _, i := range r.Initiation {
			if i.Status != protocol.StepSucceeded && i.Status != protocol.StepSkipped {
				if i.Detail != "" {
					return fmt.Sprintf("%s: %s", i.Step, i.Detail)
				}
				return string(i.Step)
			}
		}
		return "the agent's next report"
	case protocol.ReplicationInitialSync:
		return "the initial sync" + remaining(s.Agent)
	case protocol.ReplicationBacklog, protocol.ReplicationRescan:
		return "the backlog" + remaining(s.Agent)
	case protocol.ReplicationSnapshot:
		return "the snapshots of a point"
	case protocol.ReplicationStopped, protocol.ReplicationContinuous, protocol.ReplicationPaused, protocol.ReplicationStalled, protocol.ReplicationDisconnected:
	}
	return ""
}

// moving says how far a server is on its way to another replication server.
func moving(r protocol.Server) string {
	text := "its move from " + r.Move.From
	if r.Move.Target != "" {
		text += " to " + r.Move.Target
	}
	if r.Move.Released.IsZero() {
		if r.Move.Detail != "" {
			text += ": " + r.Move.Detail
		}
		return text
	}
	for _, i := range r.Initiation {
		if i.Status != protocol.StepSucceeded && i.Status != protocol.StepSkipped {
			return fmt.Sprintf("%s, now at %s %s", text, i.Step, i.Detail)
		}
	}
	return text
}

func remaining(a *protocol.AgentReport) string {
	if a == nil || a.Remaining <= 0 {
		return ""
	}
	return ", about " + a.Remaining.Round(time.Second).String() + " left"
}

// next says what the operator can do now with a server of the named wave.
func next(r protocol.Server, inWave string) string {
	switch {
	case r.Lifecycle == protocol.Cutover, r.Lifecycle == protocol.Disconnected && !r.Finalized.IsZero():
		return "nothing: the migration is complete"
	case r.Lifecycle == protocol.Disconnected && !r.Disconnect.IsZero():
		return "enrol its agent again and run: rehost server start " + r.Name
	case r.Lifecycle == protocol.Disconnected:
		return "add it to the configuration again, or remove the agent from the source"
	case r.Job != "":
		return "rehost job show " + r.Job
	case !r.Stopped.IsZero():
		return "rehost server start " + r.Name
	case r.Wanted == protocol.WantPause:
		return "rehost server resume " + r.Name
	}
	// A server that is in a wave goes with it.
	verb := func(v string) string { return "rehost server " + v + " " + r.Name }
	if inWave != "" {
		verb = func(v string) string { return "rehost wave " + v + " " + inWave }
	}
	switch r.Lifecycle {
	case protocol.NotReady:
		if r.Generation == "" {
			return "install the agent: rehost server token " + r.Name
		}
		return "wait for the initial sync"
	case protocol.ReadyForTest:
		return verb("test")
	case protocol.ReadyForCutover:
		return verb("cutover")
	case protocol.CuttingOver:
		if r.Cutover != nil {
			return "look at the target, then " + verb("finalize") + ", or go back: " + verb("revert")
		}
	case protocol.Testing, protocol.Cutover, protocol.Disconnected:
	}
	return ""
}

func (d *Desk) waves(servers []protocol.Server) []protocol.WaveStatus {
	f := d.store.Applied()
	lifecycles := map[string]protocol.Lifecycle{}
	for _, r := range servers {
		lifecycles[r.Name] = r.Lifecycle
	}
	out := []protocol.WaveStatus{}
	for _, w := range f.Waves {
		s := protocol.WaveStatus{Name: w.Name, Counts: map[protocol.Lifecycle]int{}}
		if p, err := wave.Of(f, w.Name); err == nil {
			s.Servers = p.Servers
		}
		for _, name := range s.Servers {
			if l, ok := lifecycles[name]; ok {
				s.Counts[l]++
			}
		}
		out = append(out, s)
	}
	return out
}

func (d *Desk) applications() []string {
	names := []string{}
	for _, a := range d.store.Applied().Applications {
		names = append(names, a.Name)
	}
	return names
}

// jobs returns the running jobs, and the one that ended last.
func (d *Desk) jobs() ([]protocol.Job, error) {
	all, err := d.store.Jobs.List("")
	if err != nil {
		return nil, err
	}
	out := []protocol.Job{}
	var newest *protocol.Job
	for _, j := range all {
		if !j.Status.Ended() {
			out = append(out, j)
		} else if !j.Ready && (newest == nil || j.Ended.After(newest.Ended)) {
			newest = &j
		}
	}
	if newest != nil {
		out = append(out, *newest)
	}
	return out, nil
}
