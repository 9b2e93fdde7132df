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

// Rate units in bytes per second. Bits are counted in powers of ten, as on the line; bytes in powers of two.
var rateUnits = map[string]float64{
	"bit/s": 1. / 8, "kbit/s": 1e3 / 8, "Mbit/s": 1e6 / 8, "Gbit/s": 1e9 / 8,
	"B/s": 1, "KiB/s": 1 << 10, "MiB/s": 1 << 20, "GiB/s": 1 << 30,
}

var ratePattern = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+/s)$`)

// ParseRate reads a bandwidth such as "50 Mbit/s" in bytes per second; "0" is none. The units are bit/s, kbit/s, Mbit/s,
// Gbit/s, B/s, KiB/s, MiB/s and GiB/s.
func ParseRate(text string) (int64, error) {
	if text == "0" {
		return 0, nil
	}
	m := ratePattern.FindStringSubmatch(text)
	if m == nil || rateUnits[m[2]] == 0 {
		return 0, fmt.Errorf("%q is not a bandwidth", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if n *= rateUnits[m[2]]; err != nil || n > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return int64(n), nil
}

// FormatRate writes bytes per second in the largest unit that keeps it whole: what [ParseRate] reads.
func FormatRate(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, unit := range []string{"Gbit/s", "Mbit/s", "GiB/s", "MiB/s", "kbit/s", "KiB/s"} {
		if size := int64(rateUnits[unit]); n%size == 0 {
			return strconv.FormatInt(n/size, 10) + " " + unit
		}
	}
	return strconv.FormatInt(n, 10) + " B/s"
}

// rateGuess says what text probably meant. A lone "M" of a bandwidth is what line rates are given in.
func rateGuess(text string) string {
	m := regexp.MustCompile(`^\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)`).FindStringSubmatch(text)
	if m == nil || m[2] == "" {
		return "50 Mbit/s"
	}
	bytes := strings.Contains(m[2], "B")
	for _, u := range [][3]string{{"k", "kbit/s", "KiB/s"}, {"m", "Mbit/s", "MiB/s"}, {"g", "Gbit/s", "GiB/s"}} {
		if strings.HasPrefix(strings.ToLower(m[2]), u[0]) {
			if bytes {
				return m[1] + " " + u[2]
			}
			return m[1] + " " + u[1]
		}
	}
	return "50 Mbit/s"
}
