package replicaserver

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rehost/internal/hint"
	"rehost/protocol"
)

func TestAVolumeSmallerThanItsDiskIsRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for size, fits := range map[int64]bool{1 << 20: true, 1<<20 + 512: false} {
		w := &worker{
			server: &server{cfg: Config{ByID: dir, WorkDir: t.TempDir()}, open: OpenVolume},
			assignment: protocol.ReplicaAssignment{
				Server: "web-1", Disks: []protocol.ReplicaVolume{{Volume: "vol-0123456789abcdef0", SizeBytes: size}},
			},
		}
		volumes, err := w.open(true)
		for _, v := range volumes {
			if err := v.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if fits {
			if err != nil {
				t.Errorf("a volume as large as its disk: %v", err)
			}
			continue
		}
		p, ok := errors.AsType[*protocol.Problem](err)
		if !ok || p.Code != protocol.ProblemVolumeTooSmall || p.Hint == "" {
			t.Errorf("got %v (hint %q), want %s with a hint", err, hint.Of(err), protocol.ProblemVolumeTooSmall)
		}
	}
}
