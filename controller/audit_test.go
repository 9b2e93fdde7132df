package controller

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// verbs asks the running controller which of the operator's verbs it answers.
func (w *world) verbs() []string {
	w.t.Helper()
	msg, err := bustest.Connect(w.t, w.bus, protocol.RoleController, "looker").Request("$SRV.INFO.controller", nil, 5*time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(msg.Data, &info); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range info.Endpoints {
		prefix, _, _ := strings.Cut(protocol.OperatorSubject("|", "|"), "|")
		if rest, ok := strings.CutPrefix(e.Subject, prefix); ok {
			out = append(out, strings.TrimSuffix(rest, ".*"))
		}
	}
	return out
}

// auditLog returns the whole log.
func (w *world) auditLog(req protocol.AuditRequest) (all []protocol.AuditEntry) {
	w.t.Helper()
	for {
		page, err := ask[protocol.AuditRequest, protocol.AuditReply](w, protocol.VerbAudit, req)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, page.Entries...)
		if req.After = page.Next; !page.More {
			return all
		}
	}
}

// TestEveryChangingRequestIsInTheAuditLog walks what the controller answers, so that a new verb is found by being there.
func TestEveryChangingRequestIsInTheAuditLog(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	reading := []string{"approvals", "audit", "events", "job", "jobs", "plan", "points", "preflight", "report", "runbook", "screenshot", "status", "sweep", "version"}
	verbs := w.verbs()
	if len(verbs) < len(reading)+5 {
		t.Fatalf("the controller answers %v", verbs)
	}
	for _, verb := range verbs {
		subject := protocol.OperatorSubject(protocol.Verb(verb), "test")
		_, err := bus.Request[json.RawMessage, json.RawMessage](bus.WithReason(t.Context(), "because"), w.operator, subject, json.RawMessage(`{"operator":"somebody else"}`))
		if err != nil && !isProblem(err) {
			t.Errorf("%s: %v", verb, err)
		}
		if _, err := w.operator.RequestWithContext(t.Context(), subject, []byte("{")); err != nil {
			t.Errorf("%s: %v", verb, err)
		}
	}
	whole, broken := map[string]bool{}, map[string]bool{}
	for _, e := range w.auditLog(protocol.AuditRequest{}) {
		if e.Operator != "test" || e.Result != protocol.AuditDone && (e.Result != protocol.AuditRefused || e.Problem == nil) {
			t.Errorf("got %+v", e)
		}
		if e.Reason == "because" {
			whole[e.Verb] = true
		} else {
			broken[e.Verb] = e.Result == protocol.AuditRefused
		}
	}
	for _, verb := range verbs {
		if want := !slices.Contains(reading, verb); whole[verb] != want {
			t.Errorf("%s is in the log: %v, want %v", verb, whole[verb], want)
		}
		if !broken[verb] {
			t.Errorf("a request of %s that cannot be read is not in the log as refused", verb)
		}
	}
}

// TestTheAuditLogTellsWhatAndOfWhom looks at a request that a wave's name stands for, and at what must not be kept.
func TestTheAuditLogTellsWhatAndOfWhom(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Launches[0].UserData = "#!/bin/sh\npassword=secret\n"
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	log := w.auditLog(protocol.AuditRequest{Server: "web-1"})
	if len(log) != 2 || log[0].Verb != "apply" || log[1].Verb != "start" || log[1].Result != protocol.AuditDone {
		t.Fatalf("the log says of web-1: %+v", log)
	}
	if text := string(log[0].Request); strings.Contains(text, "secret") || !strings.Contains(text, "sha256") {
		t.Errorf("of the configuration is kept: %s", text)
	}
	if rest := w.auditLog(protocol.AuditRequest{After: log[0].ID}); len(rest) != 2 || rest[0].Verb != "enrol" || rest[0].Operator != "" || rest[1].ID != log[1].ID {
		t.Errorf("after the first entry: %+v", rest)
	}
	if none := w.auditLog(protocol.AuditRequest{Since: time.Now()}); len(none) != 0 {
		t.Errorf("from now on: %+v", none)
	}
}

// TestNobodyDeletesOfTheAuditLog, and no operator speaks in another one's name.
func TestNobodyDeletesOfTheAuditLog(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	js, err := jetstream.New(bustest.Connect(t, w.bus, protocol.RoleController, "looker"))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), protocol.AuditStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err == nil {
		t.Error("the log was purged")
	}
	if err := stream.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("an entry was deleted")
	}
	for role, subjects := range map[string][]string{
		protocol.RoleOperator:      {protocol.OperatorSubject(protocol.VerbApply, "test"), protocol.AuditSubject, "$JS.API.STREAM.DELETE." + protocol.AuditStream, "$JS.API.STREAM.INFO." + protocol.AuditStream},
		protocol.RoleReplicaServer: {protocol.AuditSubject, "$JS.API.STREAM.PURGE." + protocol.AuditStream, "$JS.API.STREAM.MSG.GET." + protocol.AuditStream, "$JS.API.CONSUMER.CREATE." + protocol.AuditStream + ".x", "$JS.API.STREAM.DELETE." + protocol.AuditStream},
	} {
		nc := bustest.Connect(t, w.bus, role, "other")
		for _, subject := range subjects {
			ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
			if msg, err := nc.RequestWithContext(ctx, subject, []byte("{}")); err == nil {
				t.Errorf("%s got an answer on %s: %s", role, subject, msg.Data)
			}
			cancel()
		}
	}
	if log := w.auditLog(protocol.AuditRequest{}); len(log) != 1 {
		t.Errorf("got %+v", log)
	}
}
