package step

import (
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

func TestWhatHasWaitedLongestIsBootedFirst(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	answered := func(ago time.Duration, problem *protocol.Problem) *protocol.BootCheck {
		return &protocol.BootCheck{At: now.Add(-ago), Problem: problem}
	}
	all := []bootable{
		{"just-now", 24 * time.Hour, answered(time.Hour, nil), time.Time{}},
		{"a-day", 24 * time.Hour, answered(25*time.Hour, nil), time.Time{}},
		{"failed", 24 * time.Hour, answered(6*time.Hour+time.Minute, &protocol.Problem{}), time.Time{}},
		{"failed-just-now", 24 * time.Hour, answered(5*time.Hour, &protocol.Problem{}), time.Time{}},
		{"two-days", 24 * time.Hour, answered(48*time.Hour, nil), time.Time{}},
		{"never", 24 * time.Hour, nil, time.Time{}},
		{"never-and-cut", 24 * time.Hour, nil, now.Add(-5 * time.Hour)},
		{"never-and-cut-before", 24 * time.Hour, nil, now.Add(-8 * time.Hour)},
		{"an-hour", time.Hour, answered(90*time.Minute, nil), time.Time{}},
	}
	for most, want := range map[int]string{-1: "", 0: "", 2: "never two-days", 9: "never two-days never-and-cut-before a-day an-hour failed"} {
		var got []string
		for _, b := range due(all, most, now) {
			got = append(got, b.server)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("at most %d: got %q, want %q", most, strings.Join(got, " "), want)
		}
	}
}
