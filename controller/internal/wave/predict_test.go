package wave

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// took is a job of one server whose steps took so long, in seconds.
func took(created int, server string, steps map[string]int) protocol.Job {
	at := time.Date(2026, 12, 1, created, 0, 0, 0, time.UTC)
	s := protocol.JobServer{Server: server}
	for name, seconds := range steps {
		s.Steps = append(s.Steps, protocol.JobStep{Name: name, Status: protocol.StepSucceeded, Started: at, Ended: at.Add(time.Duration(seconds) * time.Second)})
	}
	return protocol.Job{Kind: protocol.JobTest, Created: at, Servers: []protocol.JobServer{s}}
}

func TestAPredictionRestsOnTheServersOwnJobs(t *testing.T) {
	steps := []string{"point", "check", "cleanup"}
	h := NewHistory([]protocol.Job{
		took(9, "web-1", map[string]int{"point": 900, "check": 30}), // the sixth newest no longer counts
		took(10, "web-1", map[string]int{"point": 10, "check": 30}), took(11, "web-1", map[string]int{"point": 10}), took(12, "web-1", map[string]int{"point": 20}),
		took(13, "web-1", map[string]int{"point": 30}), took(14, "web-1", map[string]int{"point": 900, "cleanup": 5}),
	})
	got := h.Predict(steps, Facts{Server: "web-1", Backlog: time.Minute})
	if want := (Prediction{Point: 80 * time.Second, Ready: 80 * time.Second, Down: 110 * time.Second, Whole: 115 * time.Second, Basis: basisOwn}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := h.Predict(steps, Facts{Server: "db-1"}); got.Basis != basisOthers || got.Down != 50*time.Second {
		t.Errorf("of a server without jobs: %+v", got)
	}
	if got := h.Predict(append([]string{"fence", "commit"}, steps...), Facts{Server: "web-1"}); got.Basis != "its own jobs, and a guess of: fence" {
		t.Errorf("with a step that was never seen: %+v", got)
	}
	if got := (History{}).Predict(steps, Facts{Server: "db-1"}); got.Basis != basisGuess || got.Down != guesses["point"]+guesses["check"] {
		t.Errorf("with no job at all: %+v", got)
	}
}

// TestActionsOfOthersSayNothingOfAServerWithout: that step is skipped then.
func TestActionsOfOthersSayNothingOfAServerWithout(t *testing.T) {
	h := NewHistory([]protocol.Job{took(9, "web-1", map[string]int{"launch": 20, "actions": 600, "check": 30})})
	for want, actions := range map[time.Duration][]protocol.ActionSettings{50 * time.Second: nil, 650 * time.Second: {{Name: "join"}}} {
		if got := h.Predict([]string{"launch", "actions", "check"}, Facts{Server: "db-1", Actions: actions}); got.Down != want {
			t.Errorf("%v: got %s, want %s", actions, got.Down, want)
		}
	}
}

func TestARunbookSaysWhoIsDownWhenAndForHowLong(t *testing.T) {
	f := protocol.Fleet{
		Servers: []protocol.ServerSettings{
			{Name: "web-1", After: []string{"db-1"}, Checks: []string{"page"}}, {Name: "web-2", After: []string{"db-1"}}, {Name: "db-1", Fence: "confirmed"}, {Name: "mx-1"}, {Name: "old-1"},
		},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"web-1", "web-2", "db-1"}}, {Name: "mail", Servers: []string{"mx-1", "old-1"}}},
		Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop", "mail"}, Concurrency: 2}},
	}
	now := time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	c := Circumstances{
		Now: now, Steps: []string{"fence", "actions", "check", "cleanup"}, Facts: []Facts{{Server: "web-2", Actions: []protocol.ActionSettings{{Name: "join", MustSucceed: true}, {Name: "warm"}}}}, Over: func(s string) bool { return s == "old-1" },
		History: NewHistory([]protocol.Job{took(1, "other", map[string]int{"fence": 60, "actions": 0, "check": 240, "cleanup": 60})}),
	}
	got, err := Runbook(f, "one", c)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, s := range got.Steps {
		lines = append(lines, strings.Join([]string{s.What, s.Who, s.Begin.Sub(now).String(), s.End.Sub(now).String(), cmpInts(s.After), s.Success}, " | "))
	}
	want := []string{
		"start the cutover: rehost wave cutover one | operator | 0s | 0s |  | a job runs",
		"cut over db-1 | rehost, after the operator has stopped its writers | 0s | 10m0s | 1 | its target has started",
		"cut over web-1 | rehost | 0s | 10m0s | 2 | checks pass: page",
		"cut over web-2 | rehost | 0s | 10m0s | 2 | actions succeed: join; its target has started",
		"cut over mx-1 | rehost | 10m0s | 16m0s | 1 | its target has started",
		"look at the targets, and finalize: rehost wave finalize one | operator | 16m0s | 16m0s | 2 3 4 5 | the targets do what the sources did",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	down := map[string]time.Duration{}
	for _, d := range got.Downtimes {
		down[d.Of] = d.Time
	}
	wantDown := map[string]time.Duration{
		"server db-1": 5 * time.Minute, "server mx-1": 5 * time.Minute, "server web-1": 9 * time.Minute, "server web-2": 9 * time.Minute,
		"application shop": 9 * time.Minute, "application mail": 5 * time.Minute, "wave one": 15 * time.Minute,
	}
	if diff := cmp.Diff(wantDown, down); diff != "" {
		t.Errorf("downtimes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1 of 5 servers are cut over already"}, got.Notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func cmpInts(all []int) string {
	var out []string
	for _, n := range all {
		out = append(out, string(rune('0'+n)))
	}
	return strings.Join(out, " ")
}

func TestTheRunbookOfARehearsalHasNoGatesAndNobodyIsDown(t *testing.T) {
	f := protocol.Fleet{
		Servers:      []protocol.ServerSettings{{Name: "db", Fence: "confirmed"}, {Name: "web", After: []string{"db"}}, {Name: "core"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"web", "db"}}, {Name: "base", Servers: []string{"core"}}},
		Waves: []protocol.WaveSettings{
			{Name: "first", Applications: []string{"base"}},
			{Name: "second", Applications: []string{"shop"}, After: []string{"first"}, Gates: protocol.GateSettings{Lag: time.Second}},
		},
	}
	c := Circumstances{Now: minutes(0), Rehearsal: true, Steps: []string{"point", "launch", "check"}, Over: func(string) bool { return false }}
	book, err := Runbook(f, "second", c)
	if err != nil || len(book.Gates) != 0 || len(book.Downtimes) != 0 || len(book.Notes) != 0 || !book.Start.Equal(c.Now) || !book.End.After(book.Start) {
		t.Fatalf("got %+v, %v", book, err)
	}
	var what []string
	for _, s := range book.Steps {
		what = append(what, s.What+" by "+s.Who)
	}
	want := "start the rehearsal: rehost wave rehearse second by operator; rehearse db by rehost; rehearse web by rehost; terminate the instances by rehost"
	if got := strings.Join(what, "; "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
