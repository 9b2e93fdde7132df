package ship

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"rehost/protocol"
)

const testGranule = 16 << 10

func testConfig(t *testing.T, sizes ...int64) Config {
	t.Helper()
	cfg := Config{Server: "web-1", Generation: "g", BootID: "b", File: filepath.Join(t.TempDir(), "run", "granules")}
	for i, size := range sizes {
		cfg.Disks = append(cfg.Disks, Disk{Name: string(rune('a' + i)), Identity: string(rune('a' + i)), SizeBytes: size, GranuleBytes: testGranule})
	}
	return cfg
}

func mustOpen(t *testing.T, cfg Config, resumed bool) (*file, bool) {
	t.Helper()
	f, fresh, err := openFile(cfg, resumed)
	if err != nil {
		t.Fatal(err)
	}
	return f, fresh
}

// take picks whatever there is.
func take(g *granules, job uint64, maxBytes int64) []span {
	spans, _ := g.pick(job, maxBytes)
	return spans
}

// begun returns granules whose sync sends everything.
func begun(disks []Disk, f *file) *granules {
	g := newGranules(disks, f)
	if g.undecided() {
		g.begin(syncSend, nil)
	}
	return g
}

func TestAFreshFileNeedsEveryGranule(t *testing.T) {
	cfg := testConfig(t, 100*testGranule+512, testGranule)
	f, fresh := mustOpen(t, cfg, true)
	g := begun(cfg.Disks, f)
	if !fresh || g.disks[0].needN != 101 || g.disks[1].needN != 1 || g.synced() {
		t.Fatalf("fresh %v, need %d and %d", fresh, g.disks[0].needN, g.disks[1].needN)
	}
}

func TestWhatIsNotDurableIsNeededAfterARestart(t *testing.T) {
	cfg := testConfig(t, 200*testGranule)
	f, _ := mustOpen(t, cfg, true)
	g := begun(cfg.Disks, f)
	g.settle(take(g, 1, 1<<40), true)
	g.mark(0, 0, 0b11)          // needed
	g.mark(0, 1, 1<<5)          // will be pending
	first := take(g, 2, 32<<10) // granules 0 and 1 are pending
	g.mark(0, 2, 1)
	want := protocol.Position{Session: protocol.Session{1}, Seq: 7, Digest: protocol.Digest{2}}
	g.setBase(want)
	_ = first
	// The process dies here: nothing is closed or written out.

	f, fresh := mustOpen(t, cfg, true)
	g = begun(cfg.Disks, f)
	if fresh || f.base != want || !f.synced {
		t.Fatalf("fresh %v, base %+v, synced %v", fresh, f.base, f.synced)
	}
	if g.disks[0].needN != 4 || g.disks[0].need[0] != 0b11 || g.disks[0].need[1] != 1<<5 || g.disks[0].need[2] != 1 {
		t.Fatalf("need %b", g.disks[0].need[:3])
	}
}

func TestAFileOfAnotherBootDiskOrTrackerIsNotBelieved(t *testing.T) {
	base := testConfig(t, 100*testGranule)
	changes := map[string]func(c *Config) bool{
		"boot":       func(c *Config) bool { c.BootID = "other"; return true },
		"generation": func(c *Config) bool { c.Generation = "other"; return true },
		"disk":       func(c *Config) bool { c.Disks[0].Identity = "other"; return true },
		"size":       func(c *Config) bool { c.Disks[0].SizeBytes += testGranule; return true },
		"granule":    func(c *Config) bool { c.Disks[0].GranuleBytes *= 2; return true },
		"marks":      func(c *Config) bool { c.Tracker = "other"; return true },
		"tracker":    func(*Config) bool { return false },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			cfg := base
			cfg.File = filepath.Join(t.TempDir(), "granules")
			cfg.Disks = append([]Disk(nil), base.Disks...)
			f, _ := mustOpen(t, cfg, true)
			g := begun(cfg.Disks, f)
			g.settle(take(g, 1, 1<<40), true)
			resumed := change(&cfg)
			f, fresh := mustOpen(t, cfg, resumed)
			if g = begun(cfg.Disks, f); !fresh || g.disks[0].needN != g.disks[0].n {
				t.Fatalf("fresh %v, %d of %d granules needed", fresh, g.disks[0].needN, g.disks[0].n)
			}
		})
	}
}

func TestADamagedFileIsNotBelieved(t *testing.T) {
	cfg := testConfig(t, 100*testGranule)
	mustOpen(t, cfg, true)
	for _, at := range []int64{0, 9, 14, 20} {
		fd, err := os.OpenFile(cfg.File, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fd.WriteAt([]byte{0xff}, at); err != nil {
			t.Fatal(err)
		}
		if err := fd.Close(); err != nil {
			t.Fatal(err)
		}
		if _, fresh := mustOpen(t, cfg, true); !fresh {
			t.Errorf("damaged at %d, yet continued", at)
		}
	}
}

func TestATornSlotLeavesTheOther(t *testing.T) {
	cfg := testConfig(t, 100*testGranule)
	f, _ := mustOpen(t, cfg, true)
	f.base.Seq = 5
	f.save()
	f.base.Seq = 6
	f.save()
	f.slot(f.counter)[25] ^= 1
	f, fresh := mustOpen(t, cfg, true)
	if fresh || f.base.Seq != 5 {
		t.Fatalf("fresh %v, seq %d, want the one before", fresh, f.base.Seq)
	}
}

// TestNoGranuleIsForgotten drives the states at random beside a plain model: the set of granules of which the replica
// does not have the newest version must always be within the file, and what is durable must leave it.
func TestNoGranuleIsForgotten(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const n = 300
	cfg := testConfig(t, n*testGranule)
	f, _ := mustOpen(t, cfg, true)
	g := begun(cfg.Disks, f)
	var version, replica [n]int
	type frame struct {
		spans    []span
		versions map[int64]int
	}
	var flight []frame
	for i := range version {
		version[i] = 1
	}
	check := func() {
		t.Helper()
		for i := range version {
			in := f.words[0][i/64]&(1<<(i%64)) != 0
			if version[i] != replica[i] && !in {
				t.Fatalf("granule %d has version %d, the replica %d, and the file does not know", i, version[i], replica[i])
			}
		}
	}
	for job := uint64(1); job < 20000; job++ {
		switch rng.IntN(10) {
		case 0, 1, 2:
			i := rng.IntN(n)
			version[i]++
			g.mark(0, i/64, 1<<(i%64))
		case 3, 4, 5:
			fr := frame{spans: take(g, job, int64(1+rng.IntN(20))*testGranule), versions: map[int64]int{}}
			for _, s := range fr.spans {
				for i := s.first; i < s.first+s.count; i++ {
					fr.versions[i] = version[i]
				}
			}
			if fr.spans != nil {
				flight = append(flight, fr)
			}
		case 6, 7, 8:
			if len(flight) > 0 {
				for i, v := range flight[0].versions {
					replica[i] = v
				}
				g.settle(flight[0].spans, true)
				flight = flight[1:]
			}
		case 9:
			switch rng.IntN(20) {
			case 0:
				g.revert()
				flight = nil
			case 1: // a kill
				f, _ = mustOpen(t, cfg, true)
				g = begun(cfg.Disks, f)
				flight = nil
			}
		}
		check()
	}
	for _, fr := range flight {
		for i, v := range fr.versions {
			replica[i] = v
		}
		g.settle(fr.spans, true)
	}
	for job := uint64(20000); ; job++ {
		spans := take(g, job, 1<<20)
		if spans == nil {
			break
		}
		g.settle(spans, true)
	}
	for i, w := range f.words[0] {
		if w != 0 {
			t.Fatalf("word %d is %b when everything is durable", i, w)
		}
	}
	if d := g.disks[0]; d.needN != 0 || d.flightN != 0 || len(d.again) != 0 || !g.synced() {
		t.Fatalf("left: need %d, flight %d, again %d", d.needN, d.flightN, len(d.again))
	}
}

func TestDeltasAndTheInitialSyncTakeTurns(t *testing.T) {
	cfg := testConfig(t, 1000*testGranule)
	f, _ := mustOpen(t, cfg, true)
	g := begun(cfg.Disks, f)
	g.settle(take(g, 1, 10*testGranule), true)
	g.mark(0, 0, 1) // granule 0 is a delta now
	for job := uint64(2); job < 4; job++ {
		for _, s := range take(g, job, 10*testGranule) {
			if s.first == 0 {
				return
			}
		}
	}
	t.Fatal("a delta waits for the initial sync")
}

// What is on its way to the replica is not compared with it: the hash is of before. A block that has been sent, and became
// meanwhile what the replica held at first, would be taken for equal, and what was sent would stand.
func TestWhatIsInFlightIsNotCompared(t *testing.T) {
	cfg := testConfig(t, 100*testGranule)
	f, _ := mustOpen(t, cfg, true)
	g := newGranules(cfg.Disks, f)
	g.begin(syncCompare, nil)
	first, kind := g.pick(1, 4*testGranule)
	if kind != kindCompare || len(first) != 1 || first[0].count != 4 {
		t.Fatalf("picked %v as %v", first, kind)
	}
	g.mark(0, 0, 0b10) // granule 1, whose comparison found a difference: a frame with it is on its way
	for {
		spans, kind := g.pick(2, 100*testGranule)
		if spans == nil {
			break
		}
		for _, s := range spans {
			if kind == kindCompare && s.first < 4 {
				t.Fatalf("picked %v to be compared while it is in flight", spans)
			}
		}
		g.settle(spans, true)
	}
	g.settle(first, true)
	again, kind := g.pick(3, 100*testGranule)
	if kind != kindDelta || len(again) != 1 || again[0] != (span{0, 1, 1}) {
		t.Errorf("picked %v as %v, want granule 1 to be sent", again, kind)
	}
	g.settle(again, true)
	if n := g.needBytes(); n != 0 || !g.synced() {
		t.Errorf("%d bytes are left", n)
	}
}

func TestLagIsTheAgeOfTheOldestChange(t *testing.T) {
	now := time.Now()
	a := ages{lastDrain: now}
	if !a.oldest().IsZero() {
		t.Fatal("a change before there is one")
	}
	a.dirty(now)
	a.allPicked(1)
	a.dirty(now.Add(time.Second))
	a.allPicked(2)
	if !a.oldest().Equal(now) {
		t.Fatalf("oldest %v", a.oldest())
	}
	a.durable(1)
	if !a.oldest().Equal(now.Add(time.Second)) {
		t.Fatalf("oldest after the first is durable: %v", a.oldest())
	}
	a.revert()
	a.dirty(now.Add(time.Minute))
	if !a.oldest().Equal(now.Add(time.Second)) {
		t.Fatal("a change that was sent in vain became younger")
	}
	a.allPicked(3)
	a.durable(3)
	if !a.oldest().IsZero() {
		t.Fatal("a change when everything is durable")
	}
}

func TestAnEpochGrowsThroughKillsRebootsAndClocks(t *testing.T) {
	cfg := testConfig(t, 4*testGranule)
	now := time.Unix(1000, 0)
	open := func() *granules {
		f, _ := mustOpen(t, cfg, true)
		return newGranules(cfg.Disks, f)
	}
	g := open()
	first := g.nextEpoch(now)
	if first != uint64(now.UnixNano()) {
		t.Errorf("the first epoch is %d, want the clock's", first)
	}
	// The process dies here, before the hello is sent or after.
	g = open()
	second := g.nextEpoch(now.Add(-time.Hour))
	if second != first+1 {
		t.Errorf("after a kill, the clock an hour behind: %d after %d", second, first)
	}
	g.passEpoch(second + 10)
	g.passEpoch(3)
	g = open()
	if third := g.nextEpoch(now); third != second+11 {
		t.Errorf("after the replica has said %d: %d", second+10, third)
	}
	// The file ends with the boot; the clock goes on.
	cfg.BootID = "next"
	if fourth := open().nextEpoch(now.Add(time.Minute)); fourth <= second+11 {
		t.Errorf("after a reboot: %d after %d", fourth, second+11)
	}
	cfg.BootID = "before 1970"
	if e := open().nextEpoch(time.Unix(-1000, 0)); e != 1 {
		t.Errorf("with a clock before 1970: %d, want 1", e)
	}
}
