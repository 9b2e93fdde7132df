package track

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// A request whose completion was skipped may have its note in the map, since another one had its slot. When its memory is
// used again and the slot is free, the old note must go: counted for ever, it would hide as many sectors that are missed.
func TestANoteIsInASlotOrInTheMapAndNeverInBoth(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	tr, _ := track(t, disk.Path)
	kernel, ok := tr.(*kernelTracker)
	if !ok || !kernel.tier.slots {
		t.Skip("this tier has no slots")
	}
	waitProven(t, tr)
	lose(t, kernel, trackProgRehostComplete)
	time.Sleep(100 * time.Millisecond)
	writeMany(t, disk.Path)
	moved := 0
	for i := range kernel.slots {
		s := &kernel.slots[i]
		n, ok := readSlot(s)
		if !ok || n.note.Index != 0 {
			continue
		}
		if err := kernel.maps[trackMapNotes].Put(n.address, n.note); err != nil { // as after a collision
			t.Fatal(err)
		}
		atomic.StoreUint64(&s.Note.Issued, 0)
		atomic.StoreUint64(&s.Address, 0)
		moved++
	}
	if moved == 0 {
		t.Fatal("no write left a note")
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: kernel.programs[trackProgRehostComplete]})
	if err != nil {
		t.Fatal(err)
	}
	kernel.links = append(kernel.links, l)
	for range 40 { // until the same requests have been used again
		writeMany(t, disk.Path)
	}
	notes, err := kernel.notes(0)
	if err != nil {
		t.Fatal(err)
	}
	if len(notes) == moved {
		t.Errorf("all of %d old notes are still there", moved)
	}
	wantAccounted(t, kernel)
}

// wantAccounted checks that the tracker and the kernel count the same sectors.
func wantAccounted(t *testing.T, kernel *kernelTracker) {
	t.Helper()
	o, err := kernel.observe(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := kernel.baseline(0)
	if err != nil {
		t.Fatal(err)
	}
	if seen := o.seen() + b.Sectors + b.Recovered; seen != o.kernel.sectors {
		t.Errorf("the tracker accounts for %d sectors, the kernel wrote %d", seen, o.kernel.sectors)
	}
}

// writeMany writes from many threads, so that many requests are in flight.
func writeMany(t *testing.T, path string) {
	t.Helper()
	d := openDisk(t, path, os.O_RDWR|unix.O_DIRECT)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() { write(t, d, int64(i)*64<<10, 4096) })
	}
	wg.Wait()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
