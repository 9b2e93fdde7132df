package track

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/hint"
)

func TestDefaultGranuleKeepsTheNumberOfGranules(t *testing.T) {
	for size, want := range map[int64]int64{
		1: 16 << 10, 4 << 40: 16 << 10, 4<<40 + 1: 32 << 10, 8 << 40: 32 << 10, 64 << 40: 256 << 10,
	} {
		if got := DefaultGranule(size); got != want {
			t.Errorf("%d bytes: got %d, want %d", size, got, want)
		}
	}
}

// A process may be killed after any call of keep. What was kept or is still marked must be all that was ever marked.
func TestDrainKeepsAWordBeforeItClearsIt(t *testing.T) {
	words := []uint64{0, 0b1011, 0, 1 << 63}
	late := true
	kept := map[int]uint64{}
	n := drain(words, func(word int, bits uint64) {
		if words[word]&bits != bits {
			t.Errorf("word %d was cleared before it was kept", word)
		}
		kept[word] |= bits
		if word == 1 && late { // the kernel marks in between
			late = false
			words[1] |= 0b0100
		}
	})
	if diff := cmp.Diff(map[int]uint64{1: 0b1111, 3: 1 << 63}, kept); diff != "" || n != 5 {
		t.Errorf("kept %d granules (-want +got):\n%s", n, diff)
	}
	if diff := cmp.Diff([]uint64{0, 0, 0, 0}, words); diff != "" {
		t.Error(diff)
	}
}

func TestKeepSpan(t *testing.T) {
	kept := map[int]uint64{}
	n := keepSpan(62, 129, func(word int, bits uint64) { kept[word] |= bits })
	if diff := cmp.Diff(map[int]uint64{0: 3 << 62, 1: ^uint64(0), 2: 3}, kept); diff != "" || n != 68 {
		t.Errorf("%d granules (-want +got):\n%s", n, diff)
	}
}

func TestMissed(t *testing.T) {
	b := baseline{Sectors: 1000, Recovered: 8, Known: 1}
	o := observation{noted: 16, counts: trackCounts{Written: 100, Discarded: 50, Recovered: 4}}
	for kernel, want := range map[uint64]uint64{1178: 0, 1000: 0, 1179: 1, 1278: 100} {
		o.kernel.sectors = kernel
		if got := missed(o, b); got != want {
			t.Errorf("kernel says %d: got %d, want %d", kernel, got, want)
		}
	}
}

func TestParseKernelCount(t *testing.T) {
	line := "  101840   160788  7092703    88896    99917    84516 16952662   103635        3    26952   195525    25863       52  8749000     2444    12525      547\n"
	got, err := parseKernelCount(line)
	if want := (kernelCount{sectors: 16952662 + 8749000, inFlight: 3}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "1 2 3", "a b c d e f g h i j k"} {
		if _, err := parseKernelCount(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestTaint(t *testing.T) {
	if taint := (DiskStatus{RecoveredSectors: 8}).Taint(); taint != "" {
		t.Errorf("recovered sectors are no taint: %s", taint)
	}
	for _, d := range []DiskStatus{{Passthrough: 1}, {Unmarked: 1}, {MissedSectors: 1}} {
		if d.Taint() == "" {
			t.Errorf("no taint for %+v", d)
		}
	}
}

func TestOptionsThatCannotBeTrackedGetHints(t *testing.T) {
	disk := Disk{Path: "/dev/x", Major: 7, SizeBytes: 1 << 20}
	for name, disks := range map[string][]Disk{
		"none":       nil,
		"zero bytes": {{Path: "/dev/x"}},
		"granule":    {{Path: "/dev/x", SizeBytes: 1 << 20, GranuleBytes: 5000}},
		"twice":      {disk, disk},
	} {
		if _, err := Open(t.Context(), Options{Disks: disks}); err == nil || hint.Of(err) == "" {
			t.Errorf("%s: got %v with hint %q", name, err, hint.Of(err))
		}
	}
}

func TestFakeMarksLikeTheKernel(t *testing.T) {
	f, err := NewFake([]Disk{{Path: "a", SizeBytes: 4 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	f.Mark(0, 16383, 2)
	f.Mark(0, 65*16384, 16384)
	wantMarks(t, f, 0, []int{0, 1, 65})
	wantMarks(t, f, 0, nil)
	f.SetStatus(func(s *Status) { s.Disks[0].MissedSectors = 8 })
	if err := f.Prove(t.Context()); err == nil {
		t.Error("a tracker that missed sectors was proven")
	}
}
