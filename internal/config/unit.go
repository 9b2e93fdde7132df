package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Size units are powers of two and say so in their names; "MB" would be read in two ways.
var sizeUnits = map[string]int64{"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}

var (
	amountPattern = regexp.MustCompile(`^\s*([0-9]+)\s*([A-Za-z]*)\s*$`)
	// What people write for a duration unit, by its first letters.
	durationWords = []struct{ prefix, unit string }{
		{"milli", "ms"},
		{"msec", "ms"},
		{"ms", "ms"},
		{"s", "s"},
		{"m", "m"},
		{"h", "h"},
	}
)

// ParseSize reads a size such as "128MiB". The units are B, KiB, MiB, GiB and TiB.
func ParseSize(text string) (int64, error) {
	m := amountPattern.FindStringSubmatch(text)
	if m == nil || strings.ContainsAny(text, " \t") || sizeUnits[m[2]] == 0 {
		return 0, fmt.Errorf("%q is not a size", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	unit := sizeUnits[m[2]]
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n * unit, nil
}

// FormatSize writes a size in the largest unit that keeps it whole: what [ParseSize] reads.
func FormatSize(n int64) string {
	best := "B"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if n != 0 && n%sizeUnits[u] == 0 {
			best = u
		}
	}
	return strconv.FormatInt(n/sizeUnits[best], 10) + best
}

// sizeGuess says what text probably meant.
func sizeGuess(text string) string {
	m := amountPattern.FindStringSubmatch(text)
	if m != nil {
		switch strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(m[2]), "b"), "i")) {
		case "k":
			return m[1] + "KiB"
		case "m":
			return m[1] + "MiB"
		case "g":
			return m[1] + "GiB"
		case "t":
			return m[1] + "TiB"
		}
	}
	return "128MiB"
}

// durationGuess says what text probably meant.
func durationGuess(text string) string {
	if m := amountPattern.FindStringSubmatch(text); m != nil {
		word := strings.ToLower(m[2])
		if n, err := strconv.Atoi(m[1]); err == nil && strings.HasPrefix(word, "d") && n < 1000 {
			return strconv.Itoa(24*n) + "h"
		}
		for _, w := range durationWords {
			if strings.HasPrefix(word, w.prefix) {
				return m[1] + w.unit
			}
		}
	}
	return "5m"
}

// FormatDuration writes a duration without the zero parts that [time.Duration.String] has: "5m", not "5m0s".
func FormatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
