package track

import (
	"flag"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

var (
	// testTier is the tier that the tests of this package use.
	testTier = flag.String("tier", TierBTF, "tier that the tests use")
	// testOld makes the classic tier do without what kernels before 5.6 lack.
	testOld = flag.Bool("old", false, "neither map the marks nor read notes in batches")
	// testRanges is the number of ranges that a discard may have, whatever the disk's driver says.
	testRanges = flag.Uint("ranges", 0, "ranges of a discard")
)

func TestMain(m *testing.M) {
	flag.Parse()
	if *testOld {
		mapsClassic, eachNote = func() bool { return false }, eachByOne
	}
	if *testRanges > 0 {
		classicTier.ranges = func(Disk) uint32 { return uint32(*testRanges) }
	}
	os.Exit(m.Run())
}

// TestTheClassicTierDoesWhatTheBTFTierDoes runs the tests of the kernel's tracker once more, each way in a process of its own.
func TestTheClassicTierDoesWhatTheBTFTierDoes(t *testing.T) {
	if os.Geteuid() != 0 || *testTier == TierClassic {
		t.Skip("needs root, and to be the outer one")
	}
	for name, more := range map[string][]string{
		"as it is": nil, "on an old kernel": {"-old"}, "discards of many ranges": {"-ranges", "256"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-test.run", classicTests, "-test.v", "-tier", TierClassic}, more...)
			out, err := exec.CommandContext(t.Context(), "/proc/self/exe", args...).CombinedOutput()
			if err != nil || strings.Count(string(out), "--- PASS") < 12 {
				t.Errorf("%v\n%s", err, out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "--- ") {
					t.Log(strings.TrimSpace(line))
				}
			}
		})
	}
}

// A discard whose queueing was not seen is marked in the wrong place if it had several ranges.
func TestADiscardThatWasNotQueuedTaints(t *testing.T) {
	if *testTier != TierClassic || *testRanges < 2 {
		t.Skip("only for the classic tier, and where discards may have several ranges")
	}
	l := loopDisk(t, 64<<20)
	tr, _ := track(t, l.Path)
	d := openDisk(t, l.Path, os.O_RDWR)
	waitProven(t, tr)
	discard(t, d, 0, 1<<20)
	waitProven(t, tr)
	if taint := tr.Status().Disks[0].Taint(); taint != "" {
		t.Fatalf("a discard that was seen: %s", taint)
	}
	kernel := tr.(*kernelTracker)
	lose(t, kernel, classicProgRehostQueue)
	discard(t, d, 8<<20, 1<<20)
	for range 100 {
		if taint := tr.Status().Disks[0].Taint(); strings.Contains(taint, "2048 sectors") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("no taint: %+v", tr.Status().Disks[0])
}

// classicTests are all but those that count with one mark for each granule, or that reach into the other tier's program.
const classicTests = "TestMarksExactly|TestReadsAndFlushes|TestBuffered|TestLongRequests|TestAWrite|TestDisks|TestTheCounters|TestDrainThenRead|TestPinned|TestAReused|TestRemove|TestNoWrite|TestADiscard|TestALost|TestARequest"

// A coarse mark stands for more than was written, and never for less.
func TestLongRequestsAreMarkedWhole(t *testing.T) {
	l := loopDisk(t, 8<<30)
	tr, _ := track(t, l.Path)
	d := openDisk(t, l.Path, os.O_RDWR)
	const granule = defaultGranuleBytes
	for _, c := range []struct{ first, granules, slack int }{{10, 65, 0}, {10, 300, 2 * 64}, {100000, 200000, 2 * 4096}, {0, 8 << 30 / granule, 0}} {
		discard(t, d, uint64(c.first)*granule, uint64(c.granules)*granule)
		got := drained(t, tr, 0)
		marked := map[int]bool{}
		for _, g := range got {
			marked[g] = true
		}
		for g := c.first; g < c.first+c.granules; g++ {
			if !marked[g] {
				t.Fatalf("granule %d of %d from %d is not marked", g, c.granules, c.first)
			}
		}
		if extra := len(got) - c.granules; extra > c.slack {
			t.Errorf("%d granules from %d: %d too many are marked", c.granules, c.first, extra)
		}
	}
}

func TestATierIsChosenByWhatTheKernelOffers(t *testing.T) {
	for wanted, want := range map[string]string{"": TierBTF, "auto": TierBTF, "btf": TierBTF, "classic": TierClassic, "scan": TierScan} {
		if os.Geteuid() != 0 {
			t.Skip("needs root")
		}
		if got, _, err := Choose(wanted); err != nil || got != want {
			t.Errorf("%q: got %q, %v", wanted, got, err)
		}
	}
	if _, _, err := Choose("kprobe"); err == nil {
		t.Error("an unknown tier is taken")
	}
}

// A verifier before 5.3 refuses every loop, and one before 5.2 more than 4096 instructions.
func TestTheClassicProgramSuitsOldVerifiers(t *testing.T) {
	spec, err := loadClassic()
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range spec.Programs {
		if len(p.Instructions) > 4096 {
			t.Errorf("%s has %d instructions", name, len(p.Instructions))
		}
		if at := loop(t, p.Instructions); at >= 0 {
			t.Errorf("%s has a loop to %d: %v", name, at, p.Instructions[at])
		}
		for i, ins := range p.Instructions {
			if ins.IsFunctionCall() {
				t.Errorf("%s calls a function at %d", name, i)
			}
		}
		if p.Type != ebpf.TracePoint && name != classicProgRehostClear {
			t.Errorf("%s is a %s", name, p.Type)
		}
	}
	// The other tier has loops: that they are found shows that this looks at the right thing.
	other, err := loadTrack()
	if err != nil {
		t.Fatal(err)
	}
	if loop(t, other.Programs[trackProgRehostComplete].Instructions) < 0 {
		t.Error("the loops of the btf tier are not found")
	}
}

// A verifier gives up after a million instructions, and an older one needs more of them for the same program: the kernel
// that the tests run on must be far from that. Under the others, see test/kernels.
func TestTheVerifierIsFarFromItsLimit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, k := range kernelTiers {
		spec, err := k.spec()
		if err != nil {
			t.Fatal(err)
		}
		c, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats}})
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range c.Programs {
			_, after, _ := strings.Cut(p.VerifierLog, "processed ")
			n, err := strconv.Atoi(strings.Fields(after)[0])
			t.Logf("%s %s: %d", k.name, name, n)
			if err != nil || n > 100_000 {
				t.Errorf("%s %s: %v: %s", k.name, name, err, p.VerifierLog)
			}
		}
		c.Close()
	}
}

// loop returns the index of a jump that closes a loop, or -1: as check_cfg in the verifier, it follows all ways from the
// start and looks for one that leads to where it came from.
func loop(t *testing.T, program asm.Instructions) int {
	t.Helper()
	symbols, err := program.SymbolOffsets()
	if err != nil {
		t.Fatal(err)
	}
	index := map[asm.RawInstructionOffset]int{} // jumps count raw instructions
	var raw []asm.RawInstructionOffset
	for it := program.Iterate(); it.Next(); {
		index[it.Offset], raw = it.Index, append(raw, it.Offset)
	}
	const entered, left = 1, 2
	state := make([]int, len(program))
	var visit func(i int) int
	visit = func(i int) int {
		if i >= len(program) || state[i] == left {
			return -1
		}
		if state[i] == entered {
			return i
		}
		state[i] = entered
		defer func() { state[i] = left }()
		ins := program[i]
		op := ins.OpCode
		isJump := op.Class().IsJump() && !ins.IsFunctionCall() && !ins.IsBuiltinCall() && op.JumpOp() != asm.Exit
		if isJump {
			to, ok := symbols[ins.Reference()]
			if ins.Reference() == "" || !ok {
				if to, ok = index[raw[i]+asm.RawInstructionOffset(ins.Offset)+1]; !ok {
					t.Fatalf("the jump at %d goes nowhere: %v", i, ins)
				}
			}
			if at := visit(to); at >= 0 {
				return at
			}
		}
		if op.Class().IsJump() && (op.JumpOp() == asm.Exit || op.JumpOp() == asm.Ja) {
			return -1
		}
		return visit(i + 1)
	}
	return visit(0)
}

const formatOf618 = `name: block_rq_complete
ID: 2107
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:dev_t dev;	offset:8;	size:4;	signed:0;
	field:sector_t sector;	offset:16;	size:8;	signed:0;
	field:unsigned int nr_sector;	offset:24;	size:4;	signed:0;
	field:int error;	offset:28;	size:4;	signed:1;
	field:unsigned short ioprio;	offset:32;	size:2;	signed:0;
	field:char rwbs[10];	offset:34;	size:10;	signed:0;
	field:__data_loc char[] cmd;	offset:44;	size:4;	signed:0;

print fmt: "%d,%d %s", ((unsigned int) ((REC->dev) >> 20))
`

func TestTheFormatOfAnEventIsRead(t *testing.T) {
	got, err := parseFormat(formatOf618)
	if err != nil || got != (classicFields{Dev: 8, Sector: 16, NrSector: 24, Rwbs: 34}) {
		t.Errorf("got %+v, %v", got, err)
	}
	old := strings.NewReplacer("offset:34;	size:10", "offset:32;	size:8").Replace(formatOf618)
	if got, err := parseFormat(old); err != nil || got.Rwbs != 32 {
		t.Errorf("an older kernel's: %+v, %v", got, err)
	}
	for name, change := range map[string][2]string{
		"no sector": {"sector_t sector;", "sector_t place;"}, "a wide device": {"offset:8;	size:4", "offset:8;	size:8"},
		"a far field": {"offset:24;", "offset:2400;"}, "no number": {"offset:16;", "offset:x;"}, "rwbs as a pointer": {"char rwbs[10]", "char * rwbs"},
	} {
		if got, err := parseFormat(strings.Replace(formatOf618, change[0], change[1], 1)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzFormat(f *testing.F) {
	f.Add(formatOf618)
	f.Add("field:char rwbs[2]; offset:1; size:2;\nfield:x dev;offset:0;size:4;\nfield: ;")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseFormat(text)
		if err == nil && (got.Dev > maxFieldStart || got.Sector > maxFieldStart || got.NrSector > maxFieldStart || got.Rwbs > maxFieldStart) {
			t.Fatalf("%+v is out of the program's reach", got)
		}
	})
}
