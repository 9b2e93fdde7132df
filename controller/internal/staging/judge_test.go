package staging

import (
	"strings"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	const lost, after = 15 * time.Second, 3 * time.Minute
	fine := Evidence{Heard: true, Bus: true, Instance: "running"}
	with := func(silent time.Duration, change func(*Evidence)) Evidence {
		e := fine
		e.Silent = silent
		if change != nil {
			change(&e)
		}
		return e
	}
	ended := func(e *Evidence) { e.Gone, e.Instance = true, "terminated" }
	for name, c := range map[string]struct {
		e     Evidence
		after time.Duration
		want  string // part of the reason; empty: alive
	}{
		"it reports":                              {with(0, nil), after, ""},
		"one missed report":                       {with(2*time.Second, nil), after, ""},
		"missed reports of an ended instance":     {with(lost, ended), after, ""},
		"an ended instance":                       {with(lost+1, ended), after, "is terminated"},
		"an instance that nobody knows":           {with(lost+1, func(e *Evidence) { e.Gone, e.Instance = true, "" }), after, "does not exist"},
		"an ended instance that never reported":   {with(lost+1, func(e *Evidence) { ended(e); e.Heard = false }), after, "is terminated"},
		"an ended instance while the bus is away": {with(lost+1, func(e *Evidence) { ended(e); e.Bus = false }), after, "is terminated"},
		"an impaired instance":                    {with(lost+1, func(e *Evidence) { e.Impaired = "reachability" }), after, "reachability"},
		"an impaired instance that reports":       {with(time.Second, func(e *Evidence) { e.Impaired = "reachability" }), after, ""},
		"a silence that may be a restart":         {with(after, nil), after, ""},
		"a long silence":                          {with(after+1, nil), after, "no report for 3m"},
		"a long silence while the cloud is away":  {with(after+1, func(e *Evidence) { e.Instance = "" }), after, "no report for 3m"},
		"a long silence of everybody":             {with(time.Hour, func(e *Evidence) { e.Bus = false }), after, ""},
		"a long silence of one that never was":    {with(time.Hour, func(e *Evidence) { e.Heard = false }), after, ""},
		"a long silence that is never to count":   {with(time.Hour, nil), 0, ""},
		"an ended instance, silence never counts": {with(lost+1, ended), 0, "is terminated"},
		"an instance that somebody stopped":       {with(lost+1, func(e *Evidence) { e.Instance = "stopped" }), after, ""},
		"an instance that was stopped for longer": {with(after+1, func(e *Evidence) { e.Instance = "stopped" }), after, "no report"},
	} {
		got := Verdict(c.e, lost, c.after)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
