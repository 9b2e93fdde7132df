package stamp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// setting returns a number from the environment, so that a run can be repeated or made longer.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// At every point the replica is the frozen source, byte by byte. REHOST_POINTS is how many points each tier shall have,
// REHOST_RATE makes the writers faster, REHOST_SEED repeats a run's writes.
func TestEveryPointEqualsTheFrozenSource(t *testing.T) {
	points := int(setting(t, "REHOST_POINTS", 10))
	for _, tier := range []string{"btf", "classic"} {
		t.Run(tier, func(t *testing.T) {
			seed := setting(t, "REHOST_SEED", uint64(time.Now().UnixNano()))
			t.Logf("seed %d, %d points", seed, points)
			w := New(t, Options{Seed: seed, Rate: int(setting(t, "REHOST_RATE", 1)), Tier: tier})
			w.StartWriters()
			w.AwaitContinuous(2 * time.Minute)
			failed := 0
			for good := 0; good < points; {
				id := fmt.Sprintf("p%d", good+failed)
				ok, why := w.Point(id)
				if ok {
					good++
				} else {
					failed++
					t.Logf("point %s: %s", id, why)
				}
				if failed > points {
					t.Fatalf("%d of %d points failed, seed %d", failed, good+failed, seed)
				}
				if (good+failed)%20 == 0 {
					t.Logf("%d points are equal, %d were not taken", good, failed)
				}
			}
			t.Logf("%d points are equal; %d of %d attempts were not taken (%.0f %%)", points, failed, points+failed, 100*float64(failed)/float64(points+failed))
		})
	}
}

func TestCompareNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want, got := make([]byte, 3<<20), make([]byte, 3<<20)
	Stamp{Seed: 7, Sector: 4096, Counter: 2}.Fill(want[2<<20 : 2<<20+1024])
	Stamp{Seed: 7, Sector: 4096, Counter: 1}.Fill(got[2<<20 : 2<<20+512])
	got[2<<20+300] ^= 1
	frozen, replica := filepath.Join(dir, "frozen"), filepath.Join(dir, "replica")
	if err := errors.Join(os.WriteFile(frozen, want, 0o600), os.WriteFile(replica, got, 0o600)); err != nil {
		t.Fatal(err)
	}
	d, ok := errors.AsType[*Difference](Compare(0, frozen, replica))
	if !ok || d.Sectors != 2 || d.First != 2<<20 {
		t.Fatalf("got %+v, want 2 sectors from %d", d, 2<<20)
	}
	for _, part := range []string{"write 2 of file 0, sector 4096", "write 1 of file 0, sector 4096, disk 0, seed 7, TORN", "zeros"} {
		if !strings.Contains(d.Text, part) {
			t.Errorf("%q does not say %q", d.Text, part)
		}
	}
	if err := Compare(0, frozen, frozen); err != nil {
		t.Errorf("equal files: %v", err)
	}
}
