package track

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A driver may give a request back when its queue is full, and get it again later: that is one write and not two. The disk
// is a virtual machine's, with a short queue: see test/kernels.
func TestARequestThatIsGivenBackIsCountedOnce(t *testing.T) {
	path := os.Getenv("REHOST_TRACK_DISK")
	if path == "" {
		t.Skip("needs a disk whose queue is short, as in make kernels")
	}
	tr, disks := track(t, path)
	waitProven(t, tr)
	d := openDisk(t, path, os.O_RDWR|unix.O_DIRECT)
	requeued := countRequeues(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 100 {
				write(t, d, rng.Int64N(disks[0].SizeBytes/mib-1)*mib, 4096<<rng.IntN(8))
			}
		})
	}
	wg.Wait()
	n := requeued()
	if n == 0 {
		t.Fatal("no request was given back")
	}
	waitProven(t, tr)
	s := tr.Status().Disks[0]
	t.Logf("%d requests given back, %+v", n, s)
	if s.RecoveredSectors != 0 || s.MissedSectors != 0 {
		t.Errorf("got %+v", s)
	}
	kernel := tr.(*kernelTracker)
	wantAccounted(t, kernel)
}

// countRequeues has the kernel write a line for each event block_rq_requeue, and counts them when the result is called.
func countRequeues(t *testing.T) func() int {
	t.Helper()
	if err := unix.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
	instance := filepath.Join(tracefs, "instances", "rehost-test")
	if err := os.Mkdir(instance, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(instance); err != nil {
			t.Error(err)
		}
	})
	enable := filepath.Join(instance, eventsDir, "block_rq_requeue", "enable")
	if err := os.WriteFile(enable, []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	return func() int {
		if err := os.WriteFile(enable, []byte("0"), 0); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(instance, "trace"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "block_rq_requeue: ")
	}
}
