package preflight

import (
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

func TestAnAnswerIsWrongOrTooOld(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	daily := protocol.LaunchSettings{Name: "web", Ready: 24 * time.Hour}
	p := &protocol.Problem{Message: "the kernel has panicked"}
	ago := func(hours int) time.Time { return now.Add(-time.Duration(hours) * time.Hour) }
	for name, tt := range map[string]struct {
		since  time.Time
		boots  *protocol.BootCheck
		launch protocol.LaunchSettings
		want   string
	}{
		"booted":             {ago(99), &protocol.BootCheck{At: ago(3)}, daily, ""},
		"nobody asks":        {ago(99), nil, protocol.LaunchSettings{}, ""},
		"not yet":            {ago(47), nil, daily, ""},
		"never":              {ago(49), nil, daily, "nobody has found out yet whether a copy of it boots"},
		"too old":            {ago(99), &protocol.BootCheck{At: ago(49)}, daily, "a copy of it has booted 2d ago, and every 24h0m was asked for"},
		"does not boot":      {ago(99), &protocol.BootCheck{At: ago(1), Problem: p, Step: "boot"}, daily, "a copy of it does not boot, as of 1h0m ago: the kernel has panicked"},
		"failed on its way":  {ago(99), &protocol.BootCheck{At: ago(1), Problem: p, Step: "point"}, daily, "it is not known whether a copy of it boots, as of 1h0m ago: the kernel has panicked"},
		"does not replicate": {time.Time{}, &protocol.BootCheck{At: ago(99)}, daily, ""},
	} {
		rec := protocol.Server{Name: "web-1", Lifecycle: protocol.ReadyForTest, Since: tt.since, Boots: tt.boots}
		if tt.since.IsZero() {
			rec.Lifecycle = protocol.NotReady
		}
		got, hints := "", true
		for _, f := range Boots(rec, tt.launch, now) {
			got += f.Message
			hints = hints && strings.Contains(f.Hint, "rehost ") && f.Severity == protocol.SeverityWarning
		}
		if got != tt.want || !hints {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
