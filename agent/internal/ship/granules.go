package ship

import (
	"math/bits"
	"sync"
	"time"

	"rehost/protocol"
)

// span is a run of granules of one disk.
type span struct {
	disk  int
	first int64
	count int64
}

// granules knows the state of each granule: needed, in flight (picked, read, or published and not durable), or
// neither. A granule may be both: written again since it was picked.
type granules struct {
	mu    sync.Mutex
	disks []*diskGranules
	file  *file
	next  int  // disk where the next pick looks first
	turn  bool // whose turn it is when both deltas and the initial sync have something
	age   ages
	shut  bool   // a drain is under way: nothing is picked
	watch *watch // of the range that is being verified; nil: none
	// since is of the newest point that was sent, taking of the one that is being taken, against of the one whose snapshots are
	// being compared; nil: none.
	since, taking, against *since
}

type diskGranules struct {
	Disk
	n       int64
	need    []uint64
	flight  []uint64
	initial []uint64 // never durable since the sync began
	// again counts, for a granule in flight, the frames beyond the first.
	again map[int64]int

	needN, needInitialN, flightN, initialN, freeN int64
	rescanned                                     int64 // compared in the newest rescan
	deltaAt, initialAt                            int   // words where the last picks ended
}

func newGranules(disks []Disk, f *file) *granules {
	g := &granules{file: f, age: ages{lastDrain: time.Now()}}
	for i, d := range disks {
		w := wordCount(d)
		dg := &diskGranules{Disk: d, n: granuleCount(d), need: make([]uint64, w), flight: make([]uint64, w), initial: make([]uint64, w), again: map[int64]int{}}
		copy(dg.need, f.words[i])
		if !f.synced {
			copy(dg.initial, f.words[i])
		}
		for _, w := range f.free[i] {
			dg.freeN += onesCount(w)
		}
		dg.recount()
		g.disks = append(g.disks, dg)
	}
	if g.needBytesLocked() > 0 {
		g.age.dirty(time.Now())
	}
	return g
}

func (d *diskGranules) recount() {
	d.needN, d.needInitialN, d.flightN, d.initialN = 0, 0, 0, 0
	for i := range d.need {
		d.needN += int64(bits.OnesCount64(d.need[i]))
		d.needInitialN += int64(bits.OnesCount64(d.need[i] & d.initial[i]))
		d.flightN += int64(bits.OnesCount64(d.flight[i]))
		d.initialN += int64(bits.OnesCount64(d.initial[i]))
	}
}

func onesCount(w uint64) int64 { return int64(bits.OnesCount64(w)) }

// mark makes written granules needed. The file comes first: when this returns, a kill loses nothing.
func (g *granules) mark(disk, word int, w uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.disks[disk]
	if word >= len(d.need) {
		return
	}
	w &= wordMask(word, d.n)
	g.file.or(disk, word, w)
	if used := g.file.free[disk][word] & w; used != 0 {
		g.file.free[disk][word] &^= used
		d.freeN -= onesCount(used)
	}
	d.setNeed(word, w)
	g.touchLocked(disk, word, w)
}

// touchLocked tells whoever notes what is written.
func (g *granules) touchLocked(disk, word int, w uint64) {
	g.watch.touch(disk, word, w)
	for _, s := range []*since{g.since, g.taking, g.against} {
		s.touch(disk, word, w)
	}
}

func (d *diskGranules) setNeed(word int, w uint64) {
	fresh := w &^ d.need[word]
	d.need[word] |= fresh
	d.needN += int64(bits.OnesCount64(fresh))
	d.needInitialN += int64(bits.OnesCount64(fresh & d.initial[word]))
}

// shutFor stops the picking while marks are drained, and begins it again. A mark is kept here before it is cleared in the
// kernel; were it picked and read in between, a write right after that would find its mark set, and the mark would then
// be cleared with nobody to read the granule again.
func (g *granules) shutFor(drain bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = drain
}

// drained notes that the marks of all disks were taken at now, and how many there were.
func (g *granules) drained(now time.Time, n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > 0 {
		g.age.dirty(g.age.lastDrain)
	}
	g.age.lastDrain = now
}

// noJob is for picks of which the job is not known yet: how old they are is noted at the next pick.
const noJob = 0

// pick takes up to maxBytes of needed granules of one kind, as job; they are in flight from now on. Deltas and the
// initial sync take turns, so that neither waits for the other.
func (g *granules) pick(job uint64, maxBytes int64) (spans []span, kind kind) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, kindDelta
	}
	g.turn = !g.turn
	initial := g.turn
	spans = g.pickLocked(maxBytes, initial)
	if spans == nil {
		initial = !initial
		spans = g.pickLocked(maxBytes, initial)
	}
	if spans == nil && job > 0 {
		job-- // everything is in earlier ones
	}
	if job > 0 {
		g.pickedLocked(job)
	}
	switch {
	case !initial:
		return spans, kindDelta
	case g.file.mode == syncCompare:
		return spans, kindCompare
	}
	return spans, kindInitial
}

// kind is why granules are picked.
type kind int

const (
	kindDelta   kind = iota // written since they were durable
	kindInitial             // never durable since the sync began
	kindCompare             // likewise, and the replica may hold them already
)

func (g *granules) pickLocked(maxBytes int64, initial bool) []span {
	var spans []span
	if initial && g.file.mode == syncUndecided {
		return nil
	}
	for i := range g.disks {
		disk := (g.next + i) % len(g.disks)
		d := g.disks[disk]
		if initial && d.needInitialN == 0 || !initial && d.needN == d.needInitialN {
			continue
		}
		spans = d.pick(spans, disk, &maxBytes, initial)
		if maxBytes < d.GranuleBytes {
			g.next = disk
			return spans
		}
	}
	return spans
}

// pick takes granules of one kind, from where the last pick of the kind ended, once around.
func (d *diskGranules) pick(spans []span, disk int, maxBytes *int64, initial bool) []span {
	at := &d.deltaAt
	if initial {
		at = &d.initialAt
	}
	for range len(d.need) + 1 {
		if *at >= len(d.need) {
			*at = 0
		}
		w := d.need[*at] &^ d.initial[*at]
		if initial {
			// What is in flight has to wait: when a comparison has sent it, the replica's hash is of before, and would be
			// believed if the granule has become what it was then. Once durable it is sent without one.
			w = d.need[*at] & d.initial[*at] &^ d.flight[*at]
		}
		for ; w != 0; w &= w - 1 {
			if *maxBytes < d.GranuleBytes {
				return spans
			}
			spans = extend(spans, disk, int64(*at)*64+int64(bits.TrailingZeros64(w)))
			d.take(*at, w&-w)
			*maxBytes -= d.GranuleBytes
		}
		*at++
	}
	return spans
}

// take moves one granule from need to flight.
func (d *diskGranules) take(word int, bit uint64) {
	d.need[word] &^= bit
	d.needN--
	if d.initial[word]&bit != 0 {
		d.needInitialN--
	}
	if d.flight[word]&bit != 0 {
		d.again[int64(word)*64+int64(bits.TrailingZeros64(bit))]++
		return
	}
	d.flight[word] |= bit
	d.flightN++
}

func extend(spans []span, disk int, granule int64) []span {
	if n := len(spans); n > 0 {
		if last := &spans[n-1]; last.disk == disk && last.first+last.count == granule {
			last.count++
			return spans
		}
	}
	return append(spans, span{disk: disk, first: granule, count: 1})
}

// settle ends the flight of spans. Durable ones are clean, unless they are needed or in flight once more; others are
// needed again.
func (g *granules) settle(spans []span, durable bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range spans {
		d := g.disks[s.disk]
		for i := s.first; i < s.first+s.count; i++ {
			g.settleLocked(s.disk, d, i, durable)
		}
	}
	if !durable {
		since := g.age.oldest()
		if since.IsZero() {
			since = g.age.lastDrain
		}
		g.age.dirty(since)
	}
	if durable {
		g.syncedLocked()
	}
}

func (g *granules) settleLocked(disk int, d *diskGranules, i int64, durable bool) {
	word, bit := int(i/64), uint64(1)<<(i%64)
	if !durable {
		d.setNeed(word, bit)
	} else if d.initial[word]&bit != 0 {
		d.initial[word] &^= bit
		d.initialN--
		if d.need[word]&bit != 0 {
			d.needInitialN--
		}
	}
	if d.again[i] > 0 {
		if d.again[i]--; d.again[i] == 0 {
			delete(d.again, i)
		}
		return
	}
	d.flight[word] &^= bit
	d.flightN--
	if d.need[word]&bit == 0 {
		g.file.andNot(disk, word, bit)
	}
}

// setBase notes how far the replica is. It comes before the granules are settled: the other way round a kill between
// them would leave a base with changes after it that the file does not have.
func (g *granules) setBase(p protocol.Position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file.base = p
	g.file.save()
}

// revert makes everything that is not durable needed, and nothing is in flight any more.
func (g *granules) revert() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, d := range g.disks {
		copy(d.need, g.file.words[i])
		clear(d.flight)
		clear(d.again)
		d.recount()
	}
	g.age.revert()
}

// needAll makes every granule needed: the replica's content is unknown. How they are synced is decided anew. What is in
// flight stays so and is sent once more whatever the replica's hash says: that may be of before or after the flight.
func (g *granules) needAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, d := range g.disks {
		for w := range d.need {
			mask := wordMask(w, d.n)
			g.file.or(i, w, mask)
			d.need[w], d.initial[w] = mask, mask&^d.flight[w]
			g.touchLocked(i, w, mask)
		}
		clear(g.file.free[i])
		d.freeN, d.rescanned = 0, 0
		d.recount()
	}
	g.file.synced, g.file.mode = false, syncUndecided
	g.file.save()
	g.age.dirty(time.Now())
}

// nextEpoch returns the epoch of the next hello, and keeps it first: a process that comes after a kill sends a greater
// one. It follows the clock, so that it grows, too, when the file was lost with the boot.
func (g *granules) nextEpoch(now time.Time) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file.epoch = max(g.file.epoch+1, uint64(max(now.UnixNano(), 0)))
	g.file.save()
	return g.file.epoch
}

// passEpoch makes the next epoch greater than one that the replica has seen.
func (g *granules) passEpoch(seen uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file.epoch = max(g.file.epoch, seen)
	g.file.save()
}

func (g *granules) taint() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file.taint
}

func (g *granules) setTaint(n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.file.taint = n
	g.file.save()
}

func (g *granules) synced() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.file.synced
}

func (g *granules) needBytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.needBytesLocked()
}

func (g *granules) needBytesLocked() int64 {
	var n int64
	for _, d := range g.disks {
		n += d.needN * d.GranuleBytes
	}
	return n
}
