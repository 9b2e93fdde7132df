package cloud_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/localcloud"
)

// TestASnapshotIsComparedThroughATroubledCloud reads a real snapshot while 30 % of the calls are throttled, 10 % fail, and
// each answer about a block is lost once. One bit of its 64 MiB is not what the hashes say.
func TestASnapshotIsComparedThroughATroubledCloud(t *testing.T) {
	const size, piece, flipped = 64 << 20, 16 << 20, 40<<20 + 12345
	t.Setenv("AWS_RETRY_MODE", "standard") // adaptive, each API soon gets one call a second
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var mu sync.Mutex
	troubles := map[string]int{}
	cfg := localCloud(t)
	cfg.Faults = localcloud.Faults{Seed: seed, Throttle: 0.3, Fail: 0.1, Lose: []string{"ListSnapshotBlocks", "GetSnapshotBlock"}}
	c := openWith(t, cfg, func(action, kind string) {
		mu.Lock()
		defer mu.Unlock()
		troubles[kind+" "+action]++
	})
	v := must[cloud.Volume](t)(c.CreateVolume(t.Context(), cloud.VolumeSpec{Token: "t", Zone: "local-1a", SizeBytes: 1 << 30}))
	// Every other 4 MiB is written; the rest is a hole, which the snapshot has no blocks of.
	disk := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1})
	file := must[*os.File](t)(os.OpenFile(filepath.Join(cfg.Dir, "pool", "volumes", v.ID+".raw"), os.O_RDWR, 0))
	for at := 0; at < size; at += 8 << 20 {
		_, _ = random.Read(disk[at : at+4<<20]) // never fails
		must[int](t)(file.WriteAt(disk[at:at+4<<20], int64(at)))
	}
	ok(t, file.Close())
	snapshot := must[cloud.Snapshot](t)(c.SnapshotVolume(t.Context(), v.ID, cloud.Tags{cloud.TagPoint: "p"}))
	disk[flipped] ^= 4
	want, got := hashesOf(disk, 0, size), []byte(nil)
	for at := int64(0); at < size; at += piece {
		got = append(got, must[[]byte](t)(c.SnapshotHashes(t.Context(), snapshot.ID, at, piece, granule))...)
	}
	var different []int
	for i := 0; i < len(want); i += 16 {
		if !bytes.Equal(want[i:i+16], got[i:i+16]) {
			different = append(different, i/16*granule)
		}
	}
	if diff := cmp.Diff([]int{flipped / granule * granule}, different); diff != "" {
		t.Errorf("differences (-want +got):\n%s", diff)
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("troubles: %v", troubles)
	failed := troubles["fail GetSnapshotBlock"] + troubles["fail-done GetSnapshotBlock"]
	if troubles["throttle GetSnapshotBlock"] < 10 || failed == 0 || troubles["lose GetSnapshotBlock"] != 64 || troubles["lose ListSnapshotBlocks"] != 1 {
		t.Error("these are not the troubles that the test is about")
	}
}
