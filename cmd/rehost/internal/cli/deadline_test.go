package cli

import (
	"testing"
	"time"
)

func TestADeadlineIsATimeOfTheDayOrADuration(t *testing.T) {
	now := time.Date(2026, 12, 1, 22, 30, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "90m": now.Add(90 * time.Minute), "23:00": now.Add(30 * time.Minute), "04:00": now.Add(5*time.Hour + 30*time.Minute), "22:30": now.Add(24 * time.Hour),
	} {
		if got, err := deadline(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"soon", "-1h", "0s", "25:00", "4"} {
		if got, err := deadline(text, now); err == nil {
			t.Errorf("%q: got %s", text, got)
		}
	}
}
