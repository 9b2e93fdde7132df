package step

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// Work is one server's way through one job. What it knows is in the job's record.
type Work struct {
	*Runner
	job    string
	kind   protocol.JobKind
	server string
	steps  []step
	ready  bool  // it only finds out whether a copy boots
	unit   *unit // of a cutover or a rehearsal; nil in other jobs
	most   int   // servers of the job that are worked on at once
	// cancelled ends when the job is cancelled or the unit is rolled back, and with the process.
	cancelled context.Context //nolint:containedctx // of the whole job, beside that of the process
	slot      []limit         // under which it is worked on; nil: it is not
	step      int             // index of the running step
	attempt   int             // of the running step, from 1
}

// state returns the server's part of the job's record.
func (w *Work) state() protocol.JobServer {
	job, err := w.store.Jobs.Get(w.job)
	if err != nil {
		return protocol.JobServer{}
	}
	i := slices.IndexFunc(job.Servers, func(s protocol.JobServer) bool { return s.Server == w.server })
	if i < 0 {
		return protocol.JobServer{}
	}
	return job.Servers[i]
}

// update changes the server's part of the job's record, and the log with it.
func (w *Work) update(ctx context.Context, change func(*protocol.Job, *protocol.JobServer)) error {
	_, err := w.store.Jobs.Update(ctx, w.job, func(j *protocol.Job) error {
		i := slices.IndexFunc(j.Servers, func(s protocol.JobServer) bool { return s.Server == w.server })
		if i < 0 {
			return fmt.Errorf("job %s has no server %s", w.job, w.server)
		}
		change(j, &j.Servers[i])
		return nil
	})
	return err
}

// beginStep records that a step runs. A run that a restart cut off goes on under its number.
func (w *Work) beginStep(ctx context.Context, i int, s step, again bool) error {
	w.step = i
	return w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		st := &js.Steps[i]
		if st.Status != protocol.StepInProgress || again {
			st.Status = protocol.StepInProgress
			st.Attempts++
			if st.Started.IsZero() {
				st.Started = time.Now()
			}
			if s.start != "" {
				j.Log = append(j.Log, protocol.JobEvent{At: time.Now(), Event: s.start, Server: w.server, Attempt: st.Attempts, MaxAttempts: s.attempts})
			}
		}
		w.attempt = st.Attempts
	})
}

// noteFailure records that a run failed and another one follows. What only waits is in the log once.
func (w *Work) noteFailure(ctx context.Context, i int, s step, problem *protocol.Problem, waits bool) error {
	return w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		before := js.Steps[i].Problem
		js.Steps[i].Problem = problem
		if waits && before != nil && before.Code == problem.Code {
			return
		}
		j.Log = append(j.Log, failure(s, w, *js, problem))
	})
}

func failure(s step, w *Work, js protocol.JobServer, problem *protocol.Problem) protocol.JobEvent {
	e := protocol.JobEvent{
		At: time.Now(), Event: s.fail, Server: w.server, Attempt: w.attempt, MaxAttempts: s.attempts, Instance: instance(s, js), Detail: s.name, Error: problem.Message,
	}
	if e.Event == "" {
		e.Event = protocol.JobEventName(strings.ToUpper(s.name) + "_FAIL")
	}
	return e
}

// instance is the one that a step works with: the conversion's, or the target.
func instance(s step, js protocol.JobServer) string {
	switch s.name {
	case protocol.JobStepConvert:
		return js.Data[dataConversion]
	case protocol.JobStepLaunch, protocol.JobStepActions, protocol.JobStepCheck:
		return js.Data[protocol.JobDataInstance]
	}
	return ""
}

// endStep records how a step ended, in the same write as the log's entry.
func (w *Work) endStep(ctx context.Context, i int, status protocol.StepStatus, detail string, problem *protocol.Problem) error {
	s := w.steps[i]
	defer w.follow()
	return w.update(ctx, func(j *protocol.Job, js *protocol.JobServer) {
		st := &js.Steps[i]
		st.Status, st.Detail, st.Problem, st.Ended = status, detail, problem, time.Now()
		switch {
		case status == protocol.StepFailed:
			j.Log = append(j.Log, failure(s, w, *js, problem))
			if js.Problem == nil {
				js.Problem = problem
			}
			if s.when == onSuccess {
				decide(j, w.server, protocol.OutcomeRolledBack, fmt.Sprintf("%s failed at %s: %s", w.server, s.name, problem.Message))
			}
		case status == protocol.StepCancelled:
			j.Log = append(j.Log, protocol.JobEvent{At: st.Ended, Event: protocol.EventJobCancel, Server: w.server, Attempt: st.Attempts, Instance: instance(s, *js), Detail: s.name + " ended"})
		case (status == protocol.StepSucceeded || status == protocol.StepSkipped && s.start != "") && s.end != "":
			j.Log = append(j.Log, protocol.JobEvent{
				At: st.Ended, Event: s.end, Server: w.server, Attempt: st.Attempts, MaxAttempts: s.attempts, Took: st.Ended.Sub(st.Started), Instance: instance(s, *js), Detail: detail,
			})
		}
		if j.Rehearsal != nil && allPassed(j, w.server, w.steps) {
			decide(j, w.server, protocol.OutcomePassed, "")
		}
	})
}

// data returns what a step handed on.
func (w *Work) data(key string) string { return w.state().Data[key] }

// set hands on values: pairs of key and value, in one write.
func (w *Work) set(ctx context.Context, pairs ...string) error {
	return w.update(ctx, func(_ *protocol.Job, js *protocol.JobServer) { hand(js, pairs...) })
}

func hand(js *protocol.JobServer, pairs ...string) {
	if js.Data == nil {
		js.Data = map[string]string{}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		js.Data[pairs[i]] = pairs[i+1]
		if pairs[i+1] == "" {
			delete(js.Data, pairs[i])
		}
	}
}

// progress returns a callback that shows how far the running step is. It is only for people, so a write that fails is left out.
func (w *Work) progress(ctx context.Context) cloud.Progress {
	i := w.step
	return func(detail string) {
		if err := w.update(ctx, func(_ *protocol.Job, js *protocol.JobServer) { js.Steps[i].Detail = detail }); err != nil {
			w.logger.Debug("write progress", "job", w.job, "error", err)
		}
	}
}

func (w *Work) record() (protocol.Server, error) { return w.store.Servers.Get(w.server) }

func (w *Work) settings() (protocol.ServerSettings, protocol.LaunchSettings, error) {
	server, _, launch, ok := fleet.Settings(w.store.Applied(), w.server)
	if !ok {
		return server, launch, &final{fmt.Errorf("server %s is not in the applied configuration", w.server)}
	}
	return server, launch, nil
}

// tags name what this job made for this server in a role.
func (w *Work) tags(role string) cloud.Tags {
	return cloud.Tags{cloud.TagServer: w.server, cloud.TagJob: w.job, cloud.TagRole: role}
}

// named adds what people see in the cloud's lists, and the launch block's own tags.
func named(tags cloud.Tags, name string, own map[string]string) cloud.Tags {
	out := cloud.Tags(maps.Clone(own)).With(tags)
	if out[cloud.TagName] == "" {
		out[cloud.TagName] = name
	}
	return out
}

// subnet returns where this job launches; empty: the default one.
func (w *Work) subnet(l protocol.LaunchSettings) string {
	if w.kind == protocol.JobTest && l.TestSubnet != "" {
		return l.TestSubnet
	}
	return l.Subnet
}
