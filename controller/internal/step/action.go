package step

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/await"
	"rehost/controller/internal/target"
	"rehost/internal/command"
	"rehost/protocol"
)

// actionOutput is how much of the end of what an action says is kept, in bytes.
const actionOutput = 2 << 10

// runActions does the server's action blocks on the target, each once.
func runActions(ctx context.Context, w *Work) error {
	settings, _, err := w.settings()
	if err != nil {
		return err
	}
	actions := w.store.Applied().ActionsOf(settings, w.kind)
	if len(actions) == 0 {
		return &skip{"no actions are configured"}
	}
	if w.data(dataStopped) != "" {
		return &skip{"the target is stopped, as its launch block wants it"}
	}
	var how []string
	for _, a := range actions {
		w.progress(ctx)("action " + a.Name)
		run := w.actionRun(a)
		if run.Outcome == "" {
			if a.AtFirstBoot() {
				run, err = w.awaitFirstBoot(ctx, a, run)
			} else {
				run, err = w.act(ctx, a, run)
			}
			if err != nil {
				return err
			}
			if err := w.noteAction(ctx, run, a.MustSucceed); err != nil {
				return err
			}
		}
		if run.Outcome != protocol.ScriptSucceeded && a.MustSucceed {
			return w.actionProblem(a, run)
		}
		how = append(how, a.Name+" "+string(run.Outcome))
	}
	w.progress(ctx)(strings.Join(how, ", "))
	return nil
}

// actionTime is how long the server's actions may take together.
func actionTime(w *Work) time.Duration {
	settings, _, err := w.settings()
	if err != nil {
		return 0 // the step says so
	}
	var sum time.Duration
	for _, a := range w.store.Applied().ActionsOf(settings, w.kind) {
		sum += a.Timeout
	}
	return sum
}

// actionRun is what the job's record has of an action; nothing of it has begun when the time of its begin is zero.
func (w *Work) actionRun(a protocol.ActionSettings) protocol.ActionRun {
	for _, run := range w.state().Actions {
		if run.Name == a.Name {
			return run
		}
	}
	return protocol.ActionRun{Name: a.Name, MustSucceed: a.MustSucceed}
}

// act runs an action to an outcome. One that has begun already is begun again only when it may. An error means that ctx ended, or that
// records could not be written.
func (w *Work) act(ctx context.Context, a protocol.ActionSettings, run protocol.ActionRun) (protocol.ActionRun, error) {
	limited, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	if !run.Began.IsZero() {
		run.Problem = "the controller ended while it ran, and whether it has ended is not known"
	}
	for {
		if !run.Began.IsZero() && !a.Repeatable {
			run.Outcome = protocol.ScriptUnknown
			return run, nil
		}
		shell, err := w.reach(limited)
		if err != nil && ctx.Err() != nil {
			return run, context.Cause(ctx)
		}
		if err != nil {
			return unreached(run, a, err), nil
		}
		done, err := w.actOnce(ctx, limited, shell, a, &run)
		if done || err != nil {
			return run, err
		}
		if err := await.Pause(ctx, w.cfg.Retry); err != nil {
			return run, err
		}
	}
}

// actOnce has one run of an action by a shell, which it closes. It says false when how that ended is not known.
func (w *Work) actOnce(ctx, limited context.Context, shell *target.Shell, a protocol.ActionSettings, run *protocol.ActionRun) (bool, error) {
	defer shell.Close() //nolint:errcheck // the action has ended
	if err := w.beginAction(ctx, run); err != nil {
		return false, err
	}
	began := time.Now()
	result, err := shell.RunScript(limited, a.Content)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	run.Seconds, run.Code, run.Output, run.Problem = time.Since(began).Seconds(), result.Code, outputTail(result.Output), ""
	switch {
	case limited.Err() != nil:
		run.Outcome, run.Problem = protocol.ScriptTimedOut, fmt.Sprintf("it has not ended within %s, and was killed", a.Timeout)
	case err != nil:
		run.Problem = err.Error()
		return false, nil
	case result.Code != 0:
		run.Outcome = protocol.ScriptFailed
	default:
		run.Outcome = protocol.ScriptSucceeded
	}
	return true, nil
}

// unreached ends an action for which nobody could log in, or log in again.
func unreached(run protocol.ActionRun, a protocol.ActionSettings, err error) protocol.ActionRun {
	run.Outcome = protocol.ScriptFailed
	if !run.Began.IsZero() {
		run.Outcome = protocol.ScriptUnknown
	}
	how := fmt.Sprintf("nobody could log in within %s", a.Timeout)
	if target.Lasts(err) {
		how = "nobody can log in"
	}
	run.Problem = strings.TrimPrefix(run.Problem+"; "+how+": "+err.Error(), "; ")
	return run
}

// reach logs in as soon as the target lets it. The error is that of the last try.
func (w *Work) reach(ctx context.Context) (*target.Shell, error) {
	var shell *target.Shell
	err := w.persist(ctx, oneCommand, func(ctx context.Context) (err error) {
		shell, err = w.dial(ctx)
		return err
	})
	return shell, err
}

// beginAction records that an action begins, before anything of it does.
func (w *Work) beginAction(ctx context.Context, run *protocol.ActionRun) error {
	first := run.Began.IsZero()
	if first {
		run.Began = time.Now()
	}
	return w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		setRun(js, *run)
		if first {
			j.Log = append(j.Log, protocol.JobEvent{At: run.Began, Event: protocol.EventActionStart, Server: w.server, Instance: js.Data[protocol.JobDataInstance], Detail: run.Name})
		}
	})
}

// noteAction records how an action ended. The failure of one that must succeed is the step's, which has its own entry in the log.
func (w *Work) noteAction(ctx context.Context, run protocol.ActionRun, must bool) error {
	return w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		setRun(js, run)
		e := protocol.JobEvent{
			At: time.Now(), Event: protocol.EventActionEnd, Server: w.server, Instance: js.Data[protocol.JobDataInstance], Detail: run.Name, Took: time.Duration(run.Seconds * float64(time.Second)),
		}
		if run.Outcome != protocol.ScriptSucceeded {
			e.Event, e.Error = protocol.EventActionFail, "a warning, as it need not succeed: "+actionWords(run)
		}
		if run.Outcome == protocol.ScriptSucceeded || !must {
			j.Log = append(j.Log, e)
		}
	})
}

func setRun(js *protocol.JobServer, run protocol.ActionRun) {
	if i := slices.IndexFunc(js.Actions, func(r protocol.ActionRun) bool { return r.Name == run.Name }); i >= 0 {
		js.Actions[i] = run
		return
	}
	js.Actions = append(js.Actions, run)
}

func (w *Work) actionProblem(a protocol.ActionSettings, run protocol.ActionRun) error {
	text := fmt.Sprintf("action %s of %s has failed: %s", run.Name, w.data(protocol.JobDataInstance), actionWords(run))
	if run.Outcome == protocol.ScriptUnknown {
		text = fmt.Sprintf("action %s of %s may or may not be done: %s", run.Name, w.data(protocol.JobDataInstance), actionWords(run))
	}
	if run.Output != "" {
		text += "; it says:\n" + target.Tail(run.Output, consoleLines)
	}
	return &final{&protocol.Problem{Code: protocol.ProblemAction, Message: text, Hint: actionHint(a, run)}}
}

// actionWords say how an action ended.
func actionWords(run protocol.ActionRun) string {
	if run.Problem != "" {
		return run.Problem
	}
	return fmt.Sprintf("exit code %d", run.Code)
}

func actionHint(a protocol.ActionSettings, run protocol.ActionRun) string {
	switch {
	case a.AtFirstBoot():
		return "look at the instance's console, and at journalctl -u rehost-first-boot on it; one that need not succeed says must_succeed = false"
	case run.Outcome == protocol.ScriptUnknown:
		return "look on the target how far it came; an action that may be begun twice says repeatable = true, and then this is no failure"
	case run.Began.IsZero():
		return "the controller's machine must reach the target's SSH port, and the key of the launch block's ssh must be in the user's authorized_keys"
	}
	return "correct it, or the server; one that need not succeed says must_succeed = false"
}

// outputTail is the end of what an action said.
func outputTail(text string) string {
	tail := command.Tail{Max: actionOutput}
	_, _ = tail.Write([]byte(strings.TrimRight(text, "\n"))) // never fails
	return tail.String()
}
