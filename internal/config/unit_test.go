package config

import (
	"testing"
	"time"
)

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0B": 0, "1B": 1, "16KiB": 16 << 10, "128MiB": 128 << 20, "1GiB": 1 << 30, "2TiB": 2 << 40} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
		if back := FormatSize(got); back != text {
			t.Errorf("FormatSize(%d) = %q, want %q", got, back, text)
		}
	}
	for _, text := range []string{"", "1", "1MB", "-1MiB", "1.5GiB", "1 MiB", "9223372036854775807KiB", "MiB"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, n)
		}
	}
}

func TestGuesses(t *testing.T) {
	for text, want := range map[string]string{"128MB": "128MiB", "4 g": "4GiB", "16kib": "16KiB", "lots": "128MiB"} {
		if got := sizeGuess(text); got != want {
			t.Errorf("sizeGuess(%q) = %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{"5 minutes": "5m", "30 sec": "30s", "2days": "48h", "10 millis": "10ms", "soon": "5m"} {
		if got := durationGuess(text); got != want {
			t.Errorf("durationGuess(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		10 * time.Minute: "10m", time.Hour: "1h", 90 * time.Second: "1m30s", 250 * time.Millisecond: "250ms", 24 * time.Hour: "24h",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("FormatDuration(%d) = %q, want %q", d, got, want)
		}
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "8 kbit/s": 1000, "50 Mbit/s": 6_250_000, "1 Gbit/s": 125_000_000, "3 KiB/s": 3 << 10, "12 MiB/s": 12 << 20, "7 B/s": 7,
	} {
		got, err := ParseRate(text)
		if err != nil || got != want {
			t.Errorf("ParseRate(%q) = %d, %v, want %d", text, got, err, want)
		}
		if back := FormatRate(got); back != text {
			t.Errorf("FormatRate(%d) = %q, want %q", got, back, text)
		}
	}
	if got, err := ParseRate("2.5MiB/s"); err != nil || got != 5<<19 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, text := range []string{"", "5", "50 MB/s", "50 Mbps", "-1 Mbit/s", "1e9 bit/s", "Mbit/s", "99999999999999999999 Gbit/s"} {
		if n, err := ParseRate(text); err == nil {
			t.Errorf("ParseRate(%q) = %d, want an error", text, n)
		}
	}
	for text, want := range map[string]string{"50 Mbps": "50 Mbit/s", "10MB/s": "10 MiB/s", "1G": "1 Gbit/s", "5": "50 Mbit/s", "fast": "50 Mbit/s"} {
		if got := rateGuess(text); got != want {
			t.Errorf("rateGuess(%q) = %q, want %q", text, got, want)
		}
	}
}
