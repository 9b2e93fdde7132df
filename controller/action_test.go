package controller

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

// acting is the fleet with an SSH server for its targets, and with actions of its server.
func (w *world) acting(actions ...protocol.ActionSettings) protocol.Fleet {
	f, _ := w.reached()
	for i, a := range actions {
		if a.Phase == "" {
			actions[i].Phase = protocol.ActionInBoth
		}
		if a.Timeout == 0 {
			actions[i].Timeout = 30 * time.Second
		}
		f.Servers[0].Actions = append(f.Servers[0].Actions, a.Name)
	}
	f.Actions = actions
	return f
}

// diary returns a script that adds a word to a file of this machine, and what is in it.
func diary(t *testing.T) (write func(word string) string, read func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "diary")
	return func(word string) string { return "#!/bin/sh\necho " + word + " | tee -a " + file + "\n" }, func() string {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(text)), " ")
	}
}

// tried brings the fleet's server to a test launch, and returns how that went.
func (w *world) tried(f protocol.Fleet) protocol.Job {
	w.t.Helper()
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	return w.awaitJob(w.start(protocol.JobTest).ID)
}

// details are those of a job's events of one name.
func details(job protocol.Job, name protocol.JobEventName) string {
	var out []string
	for _, e := range job.Log {
		if e.Event == name {
			out = append(out, e.Detail)
		}
	}
	return strings.Join(out, " ")
}

func TestActionsRunInTheirOrderAndPhase(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	write, read := diary(t)
	f := w.acting(
		protocol.ActionSettings{Name: "quiet", Content: write("quiet"), Phase: protocol.ActionInTest},
		protocol.ActionSettings{Name: "mail", Content: write("mail"), Phase: protocol.ActionInCutover},
		protocol.ActionSettings{Name: "join", Content: write("join"), MustSucceed: true},
	)
	f.Actions[0], f.Actions[2] = f.Actions[2], f.Actions[0] // the server's order counts
	wantSucceeded(t, w.tried(f))
	if got := read(); got != "quiet join" {
		t.Errorf("after the test: %q", got)
	}
	w.awaitState(protocol.ReadyForCutover)
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	wantSucceeded(t, job)
	if got := read(); got != "quiet join mail join" {
		t.Errorf("after the cutover: %q", got)
	}
	for _, e := range []protocol.JobEventName{protocol.EventActionStart, protocol.EventActionEnd} {
		if got := details(job, e); got != "mail join" {
			t.Errorf("%s of %q", e, got)
		}
	}
	if runs := job.Servers[0].Actions; len(runs) != 2 || runs[1].Outcome != protocol.ScriptSucceeded || runs[1].Output != "join" || runs[1].Began.IsZero() {
		t.Errorf("got %+v", runs)
	}
}

// TestAnActionThatMustSucceedRollsBack: nothing is done after it, and the source goes on.
func TestAnActionThatMustSucceedRollsBack(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	write, read := diary(t)
	f := w.acting(
		protocol.ActionSettings{Name: "license", Content: "#!/bin/sh\necho no such key >&2\nexit 3\n", MustSucceed: true, Phase: protocol.ActionInCutover},
		protocol.ActionSettings{Name: "later", Content: write("later"), Phase: protocol.ActionInCutover},
	)
	wantSucceeded(t, w.tried(f))
	w.awaitState(protocol.ReadyForCutover)
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	s := job.Servers[0]
	if s.Problem == nil || s.Problem.Code != protocol.ProblemAction || !strings.Contains(s.Problem.Message, "has failed: exit code 3; it says:\nno such key") {
		t.Errorf("got %+v", s.Problem)
	}
	if a := job.Applications[0]; a.Outcome != protocol.OutcomeRolledBack || !strings.Contains(a.Why, "web-1 failed at actions: action license of i-") {
		t.Errorf("got %+v", a)
	}
	if got := read(); got != "" || len(s.Actions) != 1 || s.Actions[0].Code != 3 {
		t.Errorf("it went on: %q, %+v", got, s.Actions)
	}
	w.awaitState(protocol.ReadyForCutover)
}

func TestAnActionThatMayFailIsAWarning(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	write, read := diary(t)
	job := w.tried(w.acting(
		protocol.ActionSettings{Name: "warm", Content: "#!/bin/sh\nexec sleep 10000\n", Timeout: time.Second},
		protocol.ActionSettings{Name: "tidy", Content: "#!/bin/false\n"},
		protocol.ActionSettings{Name: "later", Content: write("later")},
	))
	wantSucceeded(t, job)
	runs := job.Servers[0].Actions
	if len(runs) != 3 || runs[0].Outcome != protocol.ScriptTimedOut || !strings.Contains(runs[0].Problem, "within 1s") || runs[1].Code != 1 || read() != "later" {
		t.Errorf("got %+v, %q", runs, read())
	}
	if got := details(job, protocol.EventActionFail); got != "warm tidy" {
		t.Errorf("warnings of %q", got)
	}
}

// TestAnActionThatWasCutOff: the controller ends while it runs. The next one begins it again only when it may.
func TestAnActionThatWasCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		repeatable bool
		runs, want string
	}{
		"may be repeated": {true, "once once", ""},
		"may not":         {false, "once", "may or may not be done: the controller ended while it ran"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			end := w.controller(t.Context())
			write, read := diary(t)
			gate := filepath.Join(t.TempDir(), "gate")
			f := w.acting(protocol.ActionSettings{
				Name: "join", Content: write("once") + "while [ ! -e " + gate + " ]; do sleep 0.05; done\n", MustSucceed: true, Repeatable: c.repeatable,
			})
			w.apply(f)
			w.agent("web-1")
			w.awaitState(protocol.ReadyForTest)
			id := w.start(protocol.JobTest).ID
			w.await("the action", func() bool { return read() == "once" })
			end()
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			defer w.controller(t.Context())()
			job := w.awaitJob(id)
			if got := read(); got != c.runs {
				t.Errorf("it ran: %q", got)
			}
			if c.want == "" {
				wantSucceeded(t, job)
			} else if p := job.Servers[0].Problem; p == nil || !strings.Contains(p.Message, c.want) || !strings.Contains(p.Hint, "repeatable") {
				t.Errorf("got %+v", p)
			}
		})
	}
}

// TestActionsAtTheFirstBoot: the conversion gets those of its phase, after the launch block's scripts, and the console says how they ended. They need no SSH.
func TestActionsAtTheFirstBoot(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.cloud.firstBoot = map[string]int{"own": 0, "action.join": 0, "action.mail": 3}
	f := w.fleet()
	f.Launches[0].Scripts = []protocol.Script{{Name: "own", Phase: protocol.ScriptFirstBoot, Content: "#!/bin/sh\n"}}
	for name, phase := range map[string]protocol.ActionPhase{"join": protocol.ActionInBoth, "mail": protocol.ActionInCutover} {
		f.Actions = append(f.Actions, protocol.ActionSettings{
			Name: name, By: protocol.ActionByFirstBoot, Phase: phase, Content: "#!/bin/sh\n", MustSucceed: true, Timeout: 20 * time.Second,
		})
	}
	f.Servers[0].Actions = []string{"mail", "join"}
	job := w.tried(f)
	wantSucceeded(t, job)
	if runs := job.Servers[0].Actions; len(runs) != 1 || runs[0].Name != "join" || runs[0].Outcome != protocol.ScriptSucceeded || runs[0].Output != "here is 02-action.join" {
		t.Errorf("got %+v", runs)
	}
	w.awaitState(protocol.ReadyForCutover)
	job = w.awaitJob(w.start(protocol.JobCutover).ID)
	s := job.Servers[0]
	if s.Problem == nil || !strings.Contains(s.Problem.Message, "has failed: exit code 3; it says:\nhere is 02-action.mail") || !strings.Contains(s.Problem.Hint, "console") {
		t.Errorf("got %+v", s.Problem)
	}
	if got := job.Applications[0].Outcome; got != protocol.OutcomeRolledBack {
		t.Errorf("got %s", got)
	}
}

func TestAnActionNeedsAWay(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.acting(protocol.ActionSettings{Name: "join", Content: "#!/bin/sh\n"})
	f.Launches[0].SSH = nil
	f.Servers[0].Actions = append(f.Servers[0].Actions, "none")
	_, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: f})
	if !isProblem(err) || !strings.Contains(err.Error(), "action join works by SSH, and launch web has no ssh block") || !strings.Contains(err.Error(), `refers to action "none"`) {
		t.Errorf("got %v", err)
	}
}
