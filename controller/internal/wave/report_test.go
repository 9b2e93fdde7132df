package wave

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

// noon is when the job of the tests was started.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func minutes(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

func ran(name string, status protocol.StepStatus, from, to int) protocol.JobStep {
	s := protocol.JobStep{Name: name, Status: status, Started: minutes(from)}
	if status != protocol.StepInProgress {
		s.Ended = minutes(to)
	}
	return s
}

// cutoverJob has a server that was cut over, one that was rolled back, one that is fenced and worked on, and one that has not begun.
func cutoverJob() protocol.Job {
	waits := protocol.JobServer{Server: "last", Status: protocol.StepNotStarted, Steps: []protocol.JobStep{{Name: "fence", Status: protocol.StepNotStarted}}}
	return protocol.Job{
		ID: "cutover-1", Kind: protocol.JobCutover, Of: protocol.Selection{Wave: "first"}, Created: noon, By: "ada", Configuration: &protocol.JobConfiguration{Revision: 1},
		Applications: []protocol.JobApplication{
			{Name: "shop", Servers: []string{"db", "web"}, Outcome: protocol.OutcomeCommitted}, {Servers: []string{"bad"}, Outcome: protocol.OutcomeRolledBack}, {Servers: []string{"last"}},
		},
		Servers: []protocol.JobServer{
			{Server: "db", Status: protocol.StepSucceeded, Verified: noon, Data: map[string]string{"point": "p-1"}, Steps: []protocol.JobStep{
				ran("fence", protocol.StepSucceeded, 1, 2), ran("check", protocol.StepSucceeded, 8, 10), ran("cleanup", protocol.StepSucceeded, 10, 13),
			}},
			{Server: "web", Status: protocol.StepInProgress, Verified: noon, Data: map[string]string{"point": "p-2"}, Steps: []protocol.JobStep{
				ran("fence", protocol.StepSucceeded, 3, 4), ran("convert", protocol.StepInProgress, 5, 0),
			}},
			{Server: "bad", Status: protocol.StepFailed, Verified: noon, Problem: &protocol.Problem{Message: "page: it answers 500"}, Steps: []protocol.JobStep{
				ran("fence", protocol.StepSucceeded, 1, 2), ran("check", protocol.StepFailed, 5, 6), ran("unfence", protocol.StepSucceeded, 6, 7),
			}},
			waits,
		},
		Runbook: &protocol.Runbook{
			Start: noon.Add(-time.Hour),
			Steps: []protocol.RunbookStep{
				{Number: 1, What: "start"},
				{Number: 2, What: "cut over db", Server: "db", Begin: minutes(-60), End: minutes(-50)},
				{Number: 3, What: "cut over web", Server: "web"},
				{Number: 4, What: "cut over bad", Server: "bad"},
				{Number: 5, What: "cut over last", Server: "last"},
				{Number: 6, What: "look at the targets"},
			},
			Downtimes: []protocol.Downtime{{Of: "server db", Time: 6 * time.Minute, Basis: "a guess"}, {Of: "server bad", Time: 12 * time.Minute}, {Of: "server last", Time: time.Minute}, {Of: "application shop", Time: time.Hour}, {Of: "wave first", Time: time.Hour}},
		},
	}
}

func points(have ...string) func(server, id string) *protocol.Point {
	return func(_, id string) *protocol.Point {
		if slices.Contains(have, id) {
			return &protocol.Point{ID: id}
		}
		return nil
	}
}

func TestAReportComparesWithThePrediction(t *testing.T) {
	r := Report("first", cutoverJob(), points("p-1"), minutes(20))
	off := func(d protocol.ReportDowntime) float64 {
		if d.Error == nil {
			return -1
		}
		return *d.Error
	}
	got := map[string]protocol.ReportDowntime{}
	for _, d := range r.Downtimes {
		got[d.Of] = d
	}
	for of, want := range map[string]struct {
		actual int // minutes
		open   bool
		off    float64 // -1: none
	}{
		"server db":        {9, false, 50},
		"server web":       {17, true, -1},
		"server bad":       {6, false, -50},
		"server last":      {0, false, -1},
		"application shop": {19, true, -1},
		"wave first":       {19, true, -1},
	} {
		d, ok := got[of]
		if !ok || d.Actual != time.Duration(want.actual)*time.Minute || d.Open != want.open || off(d) != want.off {
			t.Errorf("%s: got %+v (error %v), want %+v", of, d, off(d), want)
		}
	}
	if len(r.Downtimes) != 6 || got["server db"].Basis != "a guess" {
		t.Errorf("got %+v", r.Downtimes)
	}
	if len(r.Steps) != 6 || !r.Steps[1].Began.Equal(minutes(1)) || !r.Steps[1].Ended.Equal(minutes(13)) || !r.Steps[2].Ended.IsZero() || r.Steps[2].Now != "convert" ||
		r.Steps[3].Now != "page: it answers 500" || r.Steps[4].Status != protocol.StepNotStarted || !r.Steps[4].Began.IsZero() || r.Steps[5].Status != "" {
		t.Errorf("got %+v", r.Steps)
	}
	if s := r.Servers[0]; s.Application != "shop" || s.Outcome != protocol.OutcomeCommitted || s.Point == nil || s.Took != 12*time.Minute {
		t.Errorf("got %+v", s)
	}
	if want := "the records of the points of web|whole comparisons without differences, before it, of last"; strings.Join(r.Absent, "|") != want {
		t.Errorf("absent: %q", r.Absent)
	}
}

// TestAReportOfAJobFromBefore has a job that recorded neither who nor what was predicted.
func TestAReportOfAJobFromBefore(t *testing.T) {
	job := cutoverJob()
	job.By, job.Configuration, job.Runbook, job.Applications = "", nil, nil, nil
	r := Report("first", job, points("p-1", "p-2"), minutes(20))
	if len(r.Steps) != 4 || r.Steps[0].What != "cut over db" || r.Steps[0].Ended.IsZero() {
		t.Errorf("got %+v", r.Steps)
	}
	for _, d := range r.Downtimes {
		if d.Predicted != 0 || d.Error != nil {
			t.Errorf("got %+v", d)
		}
	}
	if got := strings.Join(r.Absent, "|"); !strings.HasPrefix(got, "who started it|the configuration that was applied then|predictions and gates|") {
		t.Errorf("absent: %q", got)
	}
}
