package wave

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/protocol"
)

// Report puts together what a wave's job recorded. point returns a server's point, or nil.
func Report(wave string, job protocol.Job, point func(server, id string) *protocol.Point, now time.Time) protocol.Report {
	out := protocol.Report{
		At: now, Wave: wave, Job: job.ID, Kind: job.Kind, Status: job.Status, Created: job.Created, Ended: job.Ended, By: job.By, Reason: job.Reason,
		Force: job.Force, Confirmed: job.Confirmed, Configuration: job.Configuration, Runbook: job.Runbook, Applications: job.Applications, Rehearsal: job.Rehearsal,
		Steps: []protocol.ReportStep{}, Downtimes: []protocol.ReportDowntime{}, Servers: []protocol.ReportServer{},
	}
	if job.Cancel != nil {
		if out.Cancelled = job.Cancel.Reason; out.Cancelled == "" {
			out.Cancelled = "no reason was given"
		}
	}
	for _, s := range job.Servers {
		out.Servers = append(out.Servers, serverReport(job, s, point))
	}
	out.Steps = reportSteps(job)
	out.Downtimes = reportDowntimes(wave, job, now)
	out.Absent = absent(job, out.Servers)
	return out
}

func serverReport(job protocol.Job, s protocol.JobServer, point func(server, id string) *protocol.Point) protocol.ReportServer {
	out := protocol.ReportServer{JobServer: s}
	for _, a := range job.Applications {
		if slices.Contains(a.Servers, s.Server) {
			out.Application, out.Outcome = a.Name, a.Outcome
		}
	}
	if id := s.Data[protocol.JobDataPoint]; id != "" {
		out.Point = point(s.Server, id)
	}
	if began, ended := span(job, s); !ended.IsZero() {
		out.Took = ended.Sub(began)
	}
	return out
}

// ofAll says whether a step is done when all servers of the job have done the others: in a rehearsal.
func ofAll(job protocol.Job, st protocol.JobStep) bool {
	return job.Rehearsal != nil && st.Name == protocol.JobStepTerminate
}

// span is when the first step of a server began and its last one ended; the end is zero while the server is worked on.
func span(job protocol.Job, s protocol.JobServer) (began, ended time.Time) {
	for _, st := range s.Steps {
		if ofAll(job, st) {
			continue
		}
		if !st.Started.IsZero() && (began.IsZero() || st.Started.Before(began)) {
			began = st.Started
		}
		ended = later(ended, st.Ended)
	}
	if began.IsZero() || s.Status == protocol.StepNotStarted || s.Status == protocol.StepInProgress {
		ended = time.Time{}
	}
	return began, ended
}

// reportSteps is the runbook with what happened beside it; without one, the servers of the job in their order.
func reportSteps(job protocol.Job) []protocol.ReportStep {
	var out []protocol.ReportStep
	told := map[string]bool{}
	add := func(row protocol.ReportStep) {
		row.Number = len(out) + 1
		if i := slices.IndexFunc(job.Servers, func(s protocol.JobServer) bool { return s.Server == row.Server }); row.Server != "" && i >= 0 {
			s := job.Servers[i]
			row.Began, row.Ended = span(job, s)
			row.Status, row.Now = s.Status, nowOf(s)
			told[s.Server] = true
		}
		out = append(out, row)
	}
	if job.Runbook != nil {
		for i, s := range job.Runbook.Steps {
			row := protocol.ReportStep{What: s.What, Server: s.Server, Begin: s.Begin, End: s.End}
			if i == 0 {
				row.Began, row.Ended, row.Status = job.Created, job.Created, protocol.StepSucceeded
			} else if s.Server == "" && job.Rehearsal != nil {
				atTheEnd(job, &row)
			}
			add(row)
		}
	}
	for _, s := range job.Servers {
		if !told[s.Server] {
			add(protocol.ReportStep{What: verbs[job.Kind] + " " + s.Server, Server: s.Server})
		}
	}
	return out
}

// atTheEnd fills in how far the servers of a rehearsal are in what is done when all are through.
func atTheEnd(job protocol.Job, row *protocol.ReportStep) {
	open := false
	for _, s := range job.Servers {
		for _, st := range s.Steps {
			if !ofAll(job, st) {
				continue
			}
			if row.Began.IsZero() || !st.Started.IsZero() && st.Started.Before(row.Began) {
				row.Began = st.Started
			}
			row.Ended, open = later(row.Ended, st.Ended), open || st.Ended.IsZero()
			if row.Status == "" || st.Status != protocol.StepSkipped && row.Status != protocol.StepFailed {
				row.Status = st.Status
			}
		}
	}
	if open {
		row.Ended, row.Status = time.Time{}, protocol.StepInProgress
		if row.Began.IsZero() {
			row.Status = protocol.StepNotStarted
		}
	}
}

var verbs = map[protocol.JobKind]string{
	protocol.JobTest: "test", protocol.JobCutover: "cut over", protocol.JobFinalize: "finalize", protocol.JobRevert: "revert", protocol.JobTerminate: "terminate",
}

// nowOf says which step a server is at, or why it did not go as planned.
func nowOf(s protocol.JobServer) string {
	if s.Problem != nil {
		return s.Problem.Message
	}
	var at []string
	for _, st := range s.Steps {
		if st.Status == protocol.StepInProgress {
			at = append(at, strings.TrimSpace(st.Name+" "+st.Detail))
		}
	}
	return strings.Join(at, ", ")
}

// down is a time in which something was down. open: it still is.
type down struct {
	from, to time.Time
	open     bool
}

// downOf is when a server was down in a cutover: from its fence until its checks had passed, or until its source went on; ok is false when it
// was not fenced.
func downOf(s protocol.JobServer) (d down, ok bool) {
	up := time.Time{}
	for _, st := range s.Steps {
		switch {
		case st.Name == protocol.JobStepFence && !st.Started.IsZero() && st.Status != protocol.StepSkipped:
			d.from, ok = st.Started, true
		case (st.Name == lastDown || st.Name == protocol.JobStepUnfence) && st.Status == protocol.StepSucceeded:
			up = later(up, st.Ended)
		}
	}
	d.to, d.open = up, up.IsZero()
	return d, ok
}

// reportDowntimes compares predictions with what happened. Of several servers it is the time from the first fence to the last end.
func reportDowntimes(wave string, job protocol.Job, now time.Time) []protocol.ReportDowntime {
	out := []protocol.ReportDowntime{}
	predicted := map[string]protocol.Downtime{}
	if job.Runbook != nil {
		for _, d := range job.Runbook.Downtimes {
			predicted[d.Of] = d
		}
	}
	add := func(of string, servers ...string) {
		row := protocol.ReportDowntime{Of: of, Predicted: predicted[of].Time, Basis: predicted[of].Basis}
		if all, fenced := downOfAll(job, servers, now); fenced {
			row.Actual, row.Open = all.to.Sub(all.from), all.open
			if !row.Open && row.Predicted > 0 {
				percent := 100 * float64(row.Actual-row.Predicted) / float64(row.Predicted)
				row.Error = &percent
			}
		}
		if row.Predicted > 0 || row.Actual > 0 {
			out = append(out, row)
		}
	}
	var all []string
	for _, s := range job.Servers {
		add("server "+s.Server, s.Server)
		all = append(all, s.Server)
	}
	for _, a := range job.Applications {
		if a.Name != "" {
			add(applicationGroup(a.Name), a.Servers...)
		}
	}
	add(waveGroup(wave), all...)
	return out
}

func downOfAll(job protocol.Job, servers []string, now time.Time) (all down, fenced bool) {
	for _, s := range job.Servers {
		d, ok := downOf(s)
		if !ok || !slices.Contains(servers, s.Server) {
			continue
		}
		if d.open {
			d.to, all.open = now, true
		}
		if !fenced || d.from.Before(all.from) {
			all.from = d.from
		}
		all.to, fenced = later(all.to, d.to), true
	}
	return all, fenced
}

// absent tells what the record of the job does not say.
func absent(job protocol.Job, servers []protocol.ReportServer) (out []string) {
	launches := job.Kind == protocol.JobTest || job.Kind == protocol.JobCutover
	if job.By == "" {
		out = append(out, "who started it")
	}
	if job.Configuration == nil {
		out = append(out, "the configuration that was applied then")
	}
	if job.Runbook == nil {
		out = append(out, "predictions and gates")
	}
	var lost, unverified []string
	for _, s := range servers {
		if s.Data[protocol.JobDataPoint] != "" && s.Point == nil {
			lost = append(lost, s.Server)
		}
		if launches && s.Verified.IsZero() {
			unverified = append(unverified, s.Server)
		}
	}
	if len(lost) > 0 {
		out = append(out, fmt.Sprintf("the records of the points of %s", strings.Join(lost, ", ")))
	}
	if len(unverified) > 0 {
		out = append(out, fmt.Sprintf("whole comparisons without differences, before it, of %s", strings.Join(unverified, ", ")))
	}
	return out
}
