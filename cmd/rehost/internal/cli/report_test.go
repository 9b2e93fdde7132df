package cli

import (
	"context"
	"fmt"
	"time"

	"rehost/internal/hint"
	"rehost/protocol"
)

// report has a wave of which one server was rolled back, one that runs and ends at the second look, and a job from before much was recorded.
func (f *fake) report(ctx context.Context, req protocol.ReportRequest) (protocol.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch req.Wave {
	case "first":
		return f.rolledBack(ctx)
	case "rehearsed":
		return f.passed(ctx)
	case "second":
		f.polls++
		return running(f.polls > 1), nil
	case "old":
		return protocol.Report{
			At: epoch, Wave: "old", Job: "cutover-0", Kind: protocol.JobCutover, Status: protocol.JobCompleted, Created: epoch, Ended: epoch.Add(time.Hour),
			Steps:     []protocol.ReportStep{{Number: 1, What: "cut over web-1", Server: "web-1", Began: epoch, Ended: epoch.Add(time.Hour), Status: protocol.StepSucceeded}},
			Downtimes: []protocol.ReportDowntime{{Of: "server web-1", Actual: 50 * time.Minute}},
			Servers:   []protocol.ReportServer{{JobServer: protocol.JobServer{Server: "web-1", Status: protocol.StepSucceeded, Data: map[string]string{"point": "p-0"}}}},
			Absent:    []string{"who started it", "predictions and gates"},
		}, nil
	}
	return protocol.Report{}, hint.New(fmt.Sprintf("no job of a wave %q", req.Wave), "rehost wave list shows the waves")
}

// rehearsed ends a rehearsal: its second server fails in the wave that fails partly, and is left; whatever else there is was terminated.
func rehearsed(job *protocol.Job) {
	start := epoch.Add(10 * time.Hour)
	gate := protocol.Gate{Name: "window", Want: "the cutover fits into a window", Why: "it opens Sun 2026-03-01 22:00 UTC, until Mon 2026-03-02 04:00 UTC", Opens: start}
	status := protocol.StepSucceeded
	switch {
	case job.Rehearsal.Keep:
		status = protocol.StepSkipped
	case job.Of.Wave == "partial":
		gate = protocol.Gate{Name: "window", Why: "no window is long enough: 20m are predicted, and the longest one has 15m", Hint: "write another window"}
	}
	job.Rehearsal.Cutover = &protocol.Runbook{
		Wave: job.Of.Wave, At: epoch, Start: start, End: start.Add(20 * time.Minute), Gates: []protocol.Gate{gate}, Steps: []protocol.RunbookStep{},
		Downtimes: []protocol.Downtime{{Of: "server web-1", Time: 9 * time.Minute, Basis: "its own jobs"}, {Of: "wave first", Time: 19 * time.Minute}},
	}
	for i := range job.Servers {
		s := &job.Servers[i]
		s.Steps = append(s.Steps, protocol.JobStep{Name: protocol.JobStepTerminate, Status: status, Started: epoch, Ended: epoch})
		a := protocol.JobApplication{Name: "app-" + s.Server, Servers: []string{s.Server}, Outcome: protocol.OutcomePassed, Decided: epoch}
		if s.Status == protocol.StepFailed {
			a.Outcome, a.Why = protocol.OutcomeFailed, s.Server+" failed at launch: "+s.Problem.Message
			s.Steps[len(s.Steps)-1].Status = protocol.StepSkipped
		}
		job.Applications = append(job.Applications, a)
	}
}

// passed is the report of a rehearsal.
func (f *fake) passed(ctx context.Context) (protocol.Report, error) {
	r, err := f.rolledBack(ctx)
	job := protocol.Job{Of: protocol.Selection{Wave: "rehearsed"}, Rehearsal: &protocol.Rehearsal{}, Servers: []protocol.JobServer{{Server: "db-1", Status: protocol.StepSucceeded}}}
	rehearsed(&job)
	r.Wave, r.Job, r.Kind, r.Rehearsal, r.Applications = "rehearsed", "rehearsal-1", protocol.JobTest, job.Rehearsal, job.Applications
	r.Downtimes, r.Servers, r.Force, r.Absent, r.Runbook.Gates, r.Runbook.Notes = []protocol.ReportDowntime{}, r.Servers[:1], "", nil, nil, nil
	r.Steps = r.Steps[:2]
	r.Gates = []protocol.Gate{
		{Name: "rehearsed", Want: "the wave was rehearsed within 3d, as it is now, and passed", Open: true},
		{Name: "lag", Why: "db-1: its lag is 1m0s", Hint: "see what it waits for: rehost status db-1"},
	}
	r.Steps[0].What, r.Steps[1].What = "start the rehearsal: rehost wave rehearse rehearsed", "rehearse db-1"
	r.Servers[0].Outcome, r.Servers[0].Point = protocol.OutcomePassed, nil
	return r, err
}

func running(over bool) protocol.Report {
	r := protocol.Report{
		At: epoch.Add(time.Minute), Wave: "second", Job: "cutover-2", Kind: protocol.JobCutover, Status: protocol.JobStarted, Created: epoch,
		Steps:     []protocol.ReportStep{{Number: 1, What: "cut over web-2", Server: "web-2", Began: epoch, Status: protocol.StepInProgress, Now: "convert 40 %"}},
		Downtimes: []protocol.ReportDowntime{{Of: "server web-2", Actual: time.Minute, Open: true}}, Servers: []protocol.ReportServer{},
	}
	if over {
		r.Status, r.Ended = protocol.JobCompleted, epoch.Add(2*time.Minute)
		r.Steps[0].Status, r.Steps[0].Ended, r.Steps[0].Now = protocol.StepSucceeded, r.Ended, ""
		r.Downtimes[0].Open = false
	}
	return r
}

func (f *fake) rolledBack(ctx context.Context) (protocol.Report, error) {
	book, err := f.runbook(ctx, protocol.RunbookRequest{Wave: "first"})
	created := epoch.Add(10*time.Hour + time.Minute)
	shorter, longer := -20.0, 12.4
	problem := &protocol.Problem{Code: protocol.ProblemCheck, Message: "page: it answers 500", Hint: "look at its console"}
	step := func(name string, status protocol.StepStatus, from, to time.Duration, detail string) protocol.JobStep {
		return protocol.JobStep{Name: name, Status: status, Attempts: 1, Started: created.Add(from), Ended: created.Add(to), Detail: detail}
	}
	failed := step("check", protocol.StepFailed, 12*time.Minute, 14*time.Minute, "")
	failed.Problem = problem
	return protocol.Report{
		At: created.Add(time.Hour), Wave: "first", Job: "cutover-1", Kind: protocol.JobCutover, Status: protocol.JobCompleted, Created: created, Ended: created.Add(17 * time.Minute),
		By: "ada", Reason: "CHG-4711", Force: "the window is late", Configuration: &protocol.JobConfiguration{Revision: 12, Hash: "0a1b2c"}, Runbook: &book,
		Steps: []protocol.ReportStep{
			{Number: 1, What: book.Steps[0].What, Begin: book.Start, End: book.Start, Began: created, Ended: created, Status: protocol.StepSucceeded},
			{Number: 2, What: "cut over db-1", Server: "db-1", Begin: book.Steps[1].Begin, End: book.Steps[1].End, Began: created, Ended: created.Add(8 * time.Minute), Status: protocol.StepSucceeded},
			{Number: 3, What: "cut over web-1", Server: "web-1", Begin: book.Steps[2].Begin, End: book.Steps[2].End, Began: created.Add(8 * time.Minute), Ended: created.Add(17 * time.Minute), Status: protocol.StepFailed, Now: problem.Message},
		},
		Downtimes: []protocol.ReportDowntime{
			{Of: "server db-1", Predicted: 9 * time.Minute, Basis: "its own jobs", Actual: 7*time.Minute + 12*time.Second, Error: &shorter},
			{Of: "server web-1", Actual: 6 * time.Minute},
			{Of: "wave first", Predicted: 14 * time.Minute, Actual: 944 * time.Second, Error: &longer},
		},
		Applications: []protocol.JobApplication{
			{Name: "shop", Servers: []string{"db-1"}, Outcome: protocol.OutcomeCommitted, Decided: created.Add(8 * time.Minute)},
			{Servers: []string{"web-1"}, Outcome: protocol.OutcomeRolledBack, Decided: created.Add(14 * time.Minute), Why: "server web-1 has failed: " + problem.Message},
		},
		Servers: []protocol.ReportServer{
			{
				JobServer: protocol.JobServer{
					Server: "db-1", Status: protocol.StepSucceeded, Verified: epoch, Guest: &protocol.Guest{OS: "Debian 12", Kernel: "6.1.0-28-amd64", BootMode: "uefi"},
					Data:    map[string]string{"point": "p-1", "instance": "i-1", "image": "ami-1", "address": "10.0.0.5"},
					Steps:   []protocol.JobStep{step("fence", protocol.StepSucceeded, 0, 2*time.Second, "hook ended"), step("check", protocol.StepSucceeded, 6*time.Minute, 7*time.Minute, "ssh, db|page")},
					Changes: []protocol.Change{{Path: "/etc/fstab", Action: "edit", Reason: "devices by UUID", Before: "aa", After: "bb"}, {Path: "/etc/new", Action: "create", Reason: "made", After: "cc"}},
					Scripts: []protocol.ScriptRun{{Name: "rename", Phase: protocol.ScriptAfterConversion, Outcome: protocol.ScriptSucceeded, Seconds: 2}},
					Actions: []protocol.ActionRun{
						{Name: "join", MustSucceed: true, Outcome: protocol.ScriptSucceeded, Seconds: 2},
						{Name: "warm", Outcome: protocol.ScriptTimedOut, Problem: "it has not ended within 10m0s, and was killed"},
					},
					Findings: []protocol.Finding{{Severity: protocol.SeverityInfo, Code: protocol.FindingCardNames, Message: "ens5"}},
				},
				Application: "shop", Outcome: protocol.OutcomeCommitted, Took: 8 * time.Minute,
				Point: &protocol.Point{ID: "p-1", Grade: protocol.GradeFilesystem, Taken: created.Add(10 * time.Second), Frozen: 31 * time.Millisecond, Fenced: true, Snapshots: []string{"snap-1", "snap-2"}},
			},
			{
				JobServer: protocol.JobServer{Server: "web-1", Status: protocol.StepFailed, Actions: []protocol.ActionRun{{Name: "join", Began: created}}, Data: map[string]string{"point": "p-2"}, Steps: []protocol.JobStep{failed}, Problem: problem},
				Outcome:   protocol.OutcomeRolledBack, Took: 9 * time.Minute,
			},
		},
		Absent: []string{"the records of the points of web-1"},
	}, err
}
