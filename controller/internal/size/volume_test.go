package size

import (
	"strings"
	"testing"
)

func TestVolume(t *testing.T) {
	const kib = 1 << 10
	for name, c := range map[string]struct {
		size, rate int64
		want       string
	}{
		"small and idle":                      {8 * gib, 0, "standard"},
		"small with a log":                    {8 * gib, 200 * kib, "standard"},
		"small, as much as it takes":          {8 * gib, 1600 * kib, "standard"},
		"small and busy":                      {8 * gib, 1600*kib + 1, "gp3"},
		"at the border":                       {500 * gib, 0, "standard"},
		"above the border":                    {500*gib + 1, 0, "st1"},
		"large and idle":                      {4 * tib, 0, "st1"},
		"large, as much as it takes":          {4 * tib, 2560 * kib, "st1"},
		"large and busy":                      {4 * tib, 2560*kib + 1, "gp3"},
		"the same rate on a smaller one":      {tib, 2560 * kib, "gp3"},
		"the largest hard disk that is":       {16 * tib, 0, "st1"},
		"larger than any hard disk":           {16*tib + 1, 0, "gp3"},
		"just above the border, small writes": {600 * gib, 400 * kib, "gp3"},
	} {
		if got := Volume(c.size, c.rate); got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
	}
}

func TestVolumeAdvice(t *testing.T) {
	for name, c := range map[string]struct {
		current    string
		size, rate int64
		want       string // empty: none
	}{
		"as chosen":                      {"standard", 8 * gib, mib, ""},
		"a little more than it takes":    {"standard", 8 * gib, 3 * mib, ""},
		"far more than it takes":         {"standard", 8 * gib, 4 * mib, "--volume-type gp3"},
		"a large one, far more":          {"st1", 4 * tib, 6 * mib, "--volume-type gp3"},
		"a little less than would need":  {"gp3", 8 * gib, mib, ""},
		"far less than would need":       {"gp3", 8 * gib, mib / 2, "--volume-type standard"},
		"one that is larger than others": {"gp3", 20 * tib, 0, ""},
		"one that somebody changed":      {"io2", 8 * gib, 40 * mib, ""},
		"one that is not known":          {"", 8 * gib, 40 * mib, ""},
	} {
		got := VolumeAdvice("vol-1", "/dev/sdb", c.current, c.size, c.rate)
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}
