package size

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		cores  int
		memory int64
		want   string // empty: an error
	}{
		{1, 512 * mib, "t3.micro"},
		{1, 1 * gib, "t3.micro"},
		{1, 1*gib + 1, "t3.small"},
		{2, 1967 * mib, "t3.small"}, // what a machine of 2 GiB says of itself
		{2, 4 * gib, "t3.medium"},
		{2, 7800 * mib, "t3.large"},
		{2, 9 * gib, "r5.large"},
		{3, 4 * gib, "c5.xlarge"},
		{4, 8 * gib, "c5.xlarge"},
		{4, 15700 * mib, "m5.xlarge"},
		{4, 17 * gib, "r5.xlarge"},
		{8, 1 * gib, "c5.2xlarge"},
		{12, 100 * gib, "r5.4xlarge"},
		{20, 64 * gib, "c5.9xlarge"},
		{33, 200 * gib, "r5.12xlarge"},
		{36, 72 * gib, "c5.9xlarge"},
		{64, 250 * gib, "m5.16xlarge"},
		{1, 500 * gib, "r5.16xlarge"},
		{96, 768 * gib, "r5.24xlarge"},
		{97, 1 * gib, ""},
		{1, 769 * gib, ""},
		{0, 1 * gib, ""},
		{1, 0, ""},
	} {
		got, err := Choose(c.cores, c.memory)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%d cores, %s: got %q, %v, want %q", c.cores, Memory(c.memory), got, err, c.want)
		}
	}
}

// Whatever the source, the type has what it has, and none that does is cheaper.
func TestChooseIsTheCheapestThatFits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10000 {
		cores, memory := 1+rng.IntN(96), 1+rng.Int64N(768*gib)
		name, err := Choose(cores, memory)
		if err != nil {
			t.Fatalf("%d cores, %d bytes: %v", cores, memory, err)
		}
		got := kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
		for _, k := range kinds {
			if k.cores >= cores && k.memory*gib >= memory && k.price < got.price || got.cores < cores || got.memory*gib < memory {
				t.Fatalf("%d cores, %d bytes: got %+v, %+v would do", cores, memory, got, k)
			}
		}
	}
}
