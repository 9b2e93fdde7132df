package controller

import (
	"slices"
	"testing"
	"time"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// TestASurveyIsReportedOnce and asked for again by a controller that has forgotten it.
func TestASurveyIsReportedOnce(t *testing.T) {
	w := newWorld(t)
	stop := w.controller(t.Context())
	w.apply(w.fleet())
	w.await("the server's record", func() bool { return w.server().Record.Name != "" })
	nc := bustest.Connect(t, w.bus, protocol.RoleAgent, "web-1")
	survey := &protocol.Survey{At: time.Now(), Findings: []protocol.Finding{{Severity: protocol.SeverityWarning, Code: protocol.FindingSpace, Message: "little space"}}}
	report := func(id string, s *protocol.Survey) (held string) {
		t.Helper()
		order, err := bus.Request[protocol.AgentReport, protocol.AgentOrder](t.Context(), nc, protocol.AgentReportSubject("web-1"), protocol.AgentReport{Server: "web-1", SurveyID: id, Survey: s})
		if err != nil {
			t.Fatal(err)
		}
		if order.Survey != nil && s != nil {
			s.Order = *order.Survey
		}
		return order.SurveyHeld
	}
	found := func() bool {
		t.Helper()
		all, err := ask[protocol.PreflightRequest, []protocol.Preflight](w, protocol.VerbPreflight, protocol.PreflightRequest{Servers: []string{"web-1"}})
		if err != nil {
			t.Fatal(err)
		}
		space := func(f protocol.Finding) bool { return f.Code == protocol.FindingSpace }
		return slices.ContainsFunc(all, func(p protocol.Preflight) bool { return p.Server == "web-1" && slices.ContainsFunc(p.Findings, space) })
	}
	report("", survey) // learns what is ordered
	for _, step := range []struct {
		what, id string
		survey   *protocol.Survey
		held     string
		found    bool
	}{
		{"the first report", "one", survey, "one", true},
		{"one without it", "one", nil, "one", true},
		{"another one of which nothing has come", "two", nil, "", false},
		{"that one", "two", survey, "two", true},
		{"an agent that has just started", "", nil, "", false},
	} {
		if held := report(step.id, step.survey); held != step.held || found() != step.found {
			t.Errorf("%s: the controller holds %q, the finding is known: %v", step.what, held, found())
		}
	}
	report("two", survey)
	stop()
	defer w.controller(t.Context())()
	if held := report("two", nil); held != "" {
		t.Errorf("a new controller holds %q", held)
	}
}
