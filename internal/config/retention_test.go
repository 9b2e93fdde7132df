package config

import (
	"testing"
	"time"

	"rehost/protocol"
)

func TestRetentionTier(t *testing.T) {
	for text, want := range map[string]protocol.RetentionTier{
		"10m for 1h":     {Every: 10 * time.Minute, For: time.Hour},
		"1h for 1d":      {Every: time.Hour, For: day},
		"1d for 2w":      {Every: day, For: 14 * day},
		"90m  for  36h":  {Every: 90 * time.Minute, For: 36 * time.Hour},
		"1m for 1m":      {Every: time.Minute, For: time.Minute},
		"1h":             {},
		"1h for":         {},
		"an hour for 1d": {},
		"1d for 1h":      {}, // shorter than its period
		"10s for 1h":     {}, // a point costs a freeze
		"1d for 3651d":   {},
		"-1d for 1d":     {},
		"1.5d for 3d":    {},
		"1d2 for 3d":     {},
	} {
		got, err := retentionTier(text)
		if (err == nil) != (want != protocol.RetentionTier{}) || (err == nil && got != want) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}
