package track

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

const mib = 1 << 20

// loopDisk attaches a sparse image as a whole disk.
func loopDisk(t *testing.T, sizeBytes int64) *blockdev.Loop {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(sizeBytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return attach(t, blockdev.LoopOptions{File: path})
}

func attach(t *testing.T, o blockdev.LoopOptions) *blockdev.Loop {
	t.Helper()
	l, err := blockdev.AttachLoop(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Detach(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func openDisk(t *testing.T, path string, flags int) *blockdev.Device {
	t.Helper()
	d, err := blockdev.Open(path, flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// track starts to track the disks at the given paths.
func track(t *testing.T, paths ...string) (Tracker, []Disk) {
	t.Helper()
	var o Options
	for _, path := range paths {
		d, err := FindDisk(path)
		if err != nil {
			t.Fatal(err)
		}
		o.Disks = append(o.Disks, d)
	}
	return open(t, o), o.Disks
}

func open(t *testing.T, o Options) Tracker {
	t.Helper()
	if o.Tier == "" {
		o.Tier = *testTier
	}
	tr, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// drained returns the granules that a drain hands out, in order.
func drained(t *testing.T, tr Tracker, disk int) []int {
	t.Helper()
	words := map[int]uint64{}
	tr.Drain(disk, func(word int, bits uint64) { words[word] |= bits })
	var granules []int
	last := 0
	for w := range words {
		last = max(last, w)
	}
	for g := range (last + 1) * wordBits {
		if words[g/wordBits]>>(g%wordBits)&1 == 1 {
			granules = append(granules, g)
		}
	}
	return granules
}

func between(first, last int) []int {
	var all []int
	for g := first; g <= last; g++ {
		all = append(all, g)
	}
	return all
}

func wantMarks(t *testing.T, tr Tracker, disk int, want []int) {
	t.Helper()
	if diff := cmp.Diff(want, drained(t, tr, disk)); diff != "" {
		t.Errorf("marked granules (-want +got):\n%s", diff)
	}
}

func write(t *testing.T, d *blockdev.Device, offset int64, lengthBytes int) {
	t.Helper()
	buf, err := blockdev.AlignedBuffer(lengthBytes)
	if err != nil {
		t.Fatal(err)
	}
	for i := range buf {
		buf[i] = 0xa5
	}
	if _, err := d.WriteAt(buf, offset); err != nil {
		t.Fatal(err)
	}
	if err := blockdev.FreeBuffer(buf); err != nil {
		t.Fatal(err)
	}
}

func TestMarksExactlyTheGranulesWritten(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	tr, _ := track(t, disk.Path)
	d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)

	write(t, d, 5*16384, 4096)
	write(t, d, 64*16384-512, 1024) // over the edge of a granule and of a word
	write(t, d, 1000*16384, 16384)
	write(t, d, 64*mib-512, 512)
	wantMarks(t, tr, 0, []int{5, 63, 64, 1000, 4095})
	wantMarks(t, tr, 0, nil)

	write(t, d, 16*mib, 8*mib)
	wantMarks(t, tr, 0, between(1024, 1535))
}

func TestReadsAndFlushesDoNotMark(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	tr, _ := track(t, disk.Path)
	d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)
	buf, err := blockdev.AlignedBuffer(mib)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	wantMarks(t, tr, 0, nil)
	write(t, d, 0, 512)
	wantMarks(t, tr, 0, []int{0})
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	wantMarks(t, tr, 0, nil)
}

func TestBufferedWritesAreMarkedByTheTimeOfFsync(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	tr, _ := track(t, disk.Path)
	d := openDisk(t, disk.Path, os.O_RDWR)
	write(t, d, 3*16384, 16384*100)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	wantMarks(t, tr, 0, between(3, 102))
}

func TestDiscardsAndZeroesAreWrites(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	tr, _ := track(t, disk.Path)
	d := openDisk(t, disk.Path, os.O_RDWR)
	discard(t, d, 10*16384, 16384*300)
	wantMarks(t, tr, 0, between(10, 309))
	if err := blockdev.Zero(d.File, 1*mib, 32*mib); err != nil {
		t.Fatal(err)
	}
	wantMarks(t, tr, 0, between(64, 2111))
	// More are written where the disk cannot zero by itself: the kernel finds out by trying.
	if s := tr.Status().Disks[0]; s.DiscardedSectors != 300*32 || s.WrittenSectors < 32*mib/512 || !s.Proven || s.Taint() != "" {
		t.Errorf("got %+v", s)
	}
}

func discard(t *testing.T, d *blockdev.Device, offset, lengthBytes uint64) {
	t.Helper()
	span := [2]uint64{offset, lengthBytes}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), unix.BLKDISCARD, uintptr(unsafe.Pointer(&span))); errno != 0 {
		t.Fatal(errno)
	}
}

// One request may name close to 4 GiB, which is more words than one chunk of the program marks.
func TestAHugeDiscardIsMarkedWhole(t *testing.T) {
	disk := loopDisk(t, 8<<30)
	tr, _ := track(t, disk.Path)
	discard(t, openDisk(t, disk.Path, os.O_RDWR), 16384*7, 7<<30)
	got := drained(t, tr, 0)
	if n := 7 << 30 / 16384; len(got) != n || got[0] != 7 || got[n-1] != n+6 {
		t.Errorf("got %d granules", len(got))
	}
	if taint := tr.Status().Disks[0].Taint(); taint != "" {
		t.Error(taint)
	}
}

// A root partition reaches its disk through a second loop device where the kernel reads no partition tables.
func TestAWriteThroughAPartitionMarksTheWholeDisk(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	part := attach(t, blockdev.LoopOptions{File: disk.Path, Offset: mib, SizeLimit: 32 * mib})
	tr, _ := track(t, disk.Path)
	d := openDisk(t, part.Path, os.O_RDWR)
	write(t, d, 16384, 4096)
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	wantMarks(t, tr, 0, []int{65})
}

func TestDisksAreKeptApart(t *testing.T) {
	a, b, other := loopDisk(t, 64*mib), loopDisk(t, 32*mib), loopDisk(t, 64*mib)
	tr, _ := track(t, a.Path, b.Path)
	for i, l := range []*blockdev.Loop{a, b, other} {
		write(t, openDisk(t, l.Path, os.O_RDWR|unix.O_DIRECT), int64(i+1)*mib, 4096)
	}
	wantMarks(t, tr, 0, []int{64})
	wantMarks(t, tr, 1, []int{128})
}

func TestAWriteBeyondTheKnownEndTaints(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	known, err := FindDisk(disk.Path)
	if err != nil {
		t.Fatal(err)
	}
	known.SizeBytes = 32 * mib
	tr := open(t, Options{Disks: []Disk{known}})
	write(t, openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT), 32*mib-4096, 8192)
	wantMarks(t, tr, 0, []int{2047})
	if s := tr.Status().Disks[0]; s.Unmarked != 1 || s.Taint() == "" {
		t.Errorf("got %+v", s)
	}
}

func TestTheCountersAgreeWithTheKernel(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)
	write(t, d, 0, mib) // before tracking: part of the baseline
	tr, _ := track(t, disk.Path)
	write(t, d, 0, mib)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := tr.Prove(ctx); err != nil {
		t.Error(err)
	}
	s := tr.Status().Disks[0]
	if !s.Proven || s.WrittenSectors != mib/512 {
		t.Errorf("got %+v", s)
	}
	// A tracker that is blind to a write must fail its proof.
	blind := tr.(*kernelTracker)
	for _, l := range blind.links {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	blind.links = nil
	waitDetached(t, tr, d)
	if err := tr.Prove(ctx); err == nil {
		t.Errorf("the proof holds although a write was not seen: %+v", tr.Status().Disks[0])
	}
}

// waitDetached writes until a write leaves no mark: the kernel detaches a little after the last close.
func waitDetached(t *testing.T, tr Tracker, d *blockdev.Device) {
	t.Helper()
	for range 500 {
		write(t, d, 0, 4096)
		if len(drained(t, tr, 0)) == 0 {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Fatal("the program is still attached after its links were closed")
}

// Writers change random granules while a reader drains and copies; when the writers have ended, one more round
// must make the copy equal to the disk. This fails for a tracker that marks at issue or a reader that clears late.
func TestDrainThenReadNeverLosesAWrite(t *testing.T) {
	const size = 16 * mib
	disk := loopDisk(t, size)
	tr, disks := track(t, disk.Path)
	granule := disks[0].GranuleBytes
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	for w := range uint64(4) {
		d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)
		wg.Go(func() { stamp(ctx, t, d, rand.New(rand.NewPCG(seed, w))) })
	}
	d := openDisk(t, disk.Path, os.O_RDONLY|unix.O_DIRECT)
	copied := make([]byte, size)
	buf, err := blockdev.AlignedBuffer(int(granule))
	if err != nil {
		t.Fatal(err)
	}
	pass := func() int {
		granules := drained(t, tr, 0)
		for _, g := range granules {
			if _, err := d.ReadAt(buf, int64(g)*granule); err != nil {
				t.Fatal(err)
			}
			copy(copied[int64(g)*granule:], buf)
		}
		return len(granules)
	}
	total := 0
	for ctx.Err() == nil {
		total += pass()
	}
	wg.Wait()
	total += pass()
	want, err := os.ReadFile(disk.Path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, copied) {
		t.Error("the copy differs from the disk: a write was lost")
	}
	proof, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if err := tr.Prove(proof); err != nil {
		t.Error(err)
	}
	s := tr.Status()
	t.Logf("%d granules copied, %+v", total, s)
}

// stamp writes sectors that tell their counter until ctx ends.
func stamp(ctx context.Context, t *testing.T, d *blockdev.Device, rng *rand.Rand) {
	t.Helper()
	buf, err := blockdev.AlignedBuffer(4096)
	if err != nil {
		t.Error(err)
		return
	}
	for n := uint64(0); ctx.Err() == nil; n++ {
		binary.LittleEndian.PutUint64(buf, n)
		binary.LittleEndian.PutUint64(buf[8:], rng.Uint64())
		if _, err := d.WriteAt(buf, rng.Int64N(d.SizeBytes/4096)*4096); err != nil {
			t.Error(err)
			return
		}
	}
}

// pinFolder returns a folder for pins in a bpffs of the test's own.
func pinFolder(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "bpf")
	pins := filepath.Join(root, "pins")
	t.Cleanup(func() {
		if err := Remove(pins); err != nil {
			t.Error(err)
		}
		// The bpffs was ours, and it goes with the last pins.
		if in, err := inBPFFS(root); err == nil && in {
			t.Error("the bpffs is still mounted", unix.Unmount(root, 0))
		}
	})
	return pins
}

// skipUnpinned ends a test where the kernel cannot pin what the tier attaches.
func skipUnpinned(t *testing.T, o Options) {
	t.Helper()
	if _, err := os.Stat(o.PinDir); errors.Is(err, os.ErrNotExist) {
		t.Skip("nothing can be pinned here")
	}
}

func TestPinnedTrackingGoesOnWithoutAProcess(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	pins := pinFolder(t)
	found, err := FindDisk(disk.Path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Disks: []Disk{found}, PinDir: pins}
	d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)
	first := open(t, o)
	skipUnpinned(t, o)
	if first.Status().Resumed {
		t.Error("a first start claims to have resumed")
	}
	write(t, d, 0, 4096)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, d, mib, 4096) // nobody is there

	second := open(t, o)
	if !second.Status().Resumed {
		t.Error("the pins of the same disk were not found")
	}
	wantMarks(t, second, 0, []int{0, 64})
	if err := second.Prove(t.Context()); err != nil {
		t.Error(err)
	}
	if s := second.Status().Disks[0]; !s.Proven || s.Requests != 2 {
		t.Errorf("got %+v", s)
	}

	write(t, d, 2*mib, 4096)
	o.Disks[0].GranuleBytes = 65536
	third := open(t, o)
	if third.Status().Resumed {
		t.Error("marks of another granule were taken over")
	}
	wantMarks(t, third, 0, nil)
}

func TestAReusedDeviceNumberIsNotResumed(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	pins := pinFolder(t)
	found, err := FindDisk(disk.Path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Disks: []Disk{found}, PinDir: pins}
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Detach(); err != nil {
		t.Fatal(err)
	}
	again := loopDisk(t, 64*mib)
	if again.Path != disk.Path {
		t.Skipf("the kernel gave out %s instead of %s again", again.Path, disk.Path)
	}
	if open(t, o).Status().Resumed {
		t.Error("the marks of the disk that had this number before were taken over")
	}
}

func TestRemoveEndsTracking(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	pins := pinFolder(t)
	found, err := FindDisk(disk.Path)
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Disks: []Disk{found}, PinDir: pins}
	if err := open(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Remove(pins); err != nil {
			t.Fatal(err)
		}
	}
	if open(t, o).Status().Resumed {
		t.Error("tracking went on after Remove")
	}
}

func BenchmarkTrackedWrite(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	path := filepath.Join(b.TempDir(), "disk.img")
	if err := os.WriteFile(path, make([]byte, 64*mib), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := blockdev.AttachLoop(b.Context(), blockdev.LoopOptions{File: path})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Detach() }()
	d, err := blockdev.Open(l.Path, os.O_RDWR|unix.O_DIRECT)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	buf, err := blockdev.AlignedBuffer(4096)
	if err != nil {
		b.Fatal(err)
	}
	for _, tracked := range []bool{false, true} {
		b.Run(fmt.Sprintf("tracked=%v", tracked), func(b *testing.B) {
			if tracked {
				found, err := FindDisk(l.Path)
				if err != nil {
					b.Fatal(err)
				}
				tr, err := Open(b.Context(), Options{Disks: []Disk{found}})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = tr.Close() }()
			}
			for i := 0; b.Loop(); i++ {
				if _, err := d.WriteAt(buf, int64(i%16384)*4096); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Each granule is written once, while reads keep interrupts coming: what the kernel's event does not show at completion
// must come from the notes. Kernels skip programs in some contexts, so this is not a theory.
func TestNoWriteIsUnseen(t *testing.T) {
	const writers, each = 4, 12000
	disk := loopDisk(t, writers*each*16384)
	tr, _ := track(t, disk.Path)
	ctx, cancel := context.WithCancel(t.Context())
	var reader, wg sync.WaitGroup
	r := openDisk(t, disk.Path, os.O_RDONLY|unix.O_DIRECT)
	buf, err := blockdev.AlignedBuffer(16384)
	if err != nil {
		t.Fatal(err)
	}
	reader.Go(func() {
		for i := int64(0); ctx.Err() == nil; i++ {
			if _, err := r.ReadAt(buf, i%1024*16384); err != nil {
				t.Error(err)
				return
			}
		}
	})
	data, err := blockdev.AlignedBuffer(4096)
	if err != nil {
		t.Fatal(err)
	}
	for w := range int64(writers) {
		d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)
		wg.Go(func() {
			for i := range int64(each) {
				if _, err := d.WriteAt(data, (i*writers+w)*16384); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	cancel()
	reader.Wait()
	wantMarks(t, tr, 0, between(0, writers*each-1))
}

// The note of a write whose completion was skipped is handed out until the disk proves that the write is complete.
func TestALostCompletionIsDrained(t *testing.T) {
	disk := loopDisk(t, 64*mib)
	tr, _ := track(t, disk.Path)
	d := openDisk(t, disk.Path, os.O_RDWR|unix.O_DIRECT)
	kernel := tr.(*kernelTracker)
	waitProven(t, tr)
	// With only the program at issue attached, no completion is seen.
	lose(t, kernel, trackProgRehostComplete)
	time.Sleep(100 * time.Millisecond)
	write(t, d, 100*16384, 4096)
	time.Sleep(2 * noteQuiet)
	wantMarks(t, tr, 0, []int{100})
	wantMarks(t, tr, 0, nil)
	waitProven(t, tr) // the note accounts for it
	time.Sleep(noteAge)
	wantMarks(t, tr, 0, nil)
	waitProven(t, tr)
	if s := tr.Status().Disks[0]; s.RecoveredSectors != 8 || s.Requests != 0 {
		t.Errorf("got %+v", s)
	}
}

// lose detaches one of a tracker's programs.
func lose(t *testing.T, kernel *kernelTracker, program string) {
	t.Helper()
	i := slices.Index(kernel.tier.programs, program)
	if err := kernel.links[i].Close(); err != nil {
		t.Fatal(err)
	}
	kernel.links = slices.Delete(slices.Clone(kernel.links), i, i+1)
}

func waitProven(t *testing.T, tr Tracker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := tr.Prove(ctx); err != nil {
		t.Fatal(err)
	}
	if s := tr.Status().Disks[0]; !s.Proven {
		t.Errorf("not proven: %+v", s)
	}
}
