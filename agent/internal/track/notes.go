package track

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

const (
	// noteBatch is how many notes are read at once.
	noteBatch = 512
	// noteQuiet is how old a note must be before a disk with nothing in flight proves that its request is complete: the
	// kernel notes a request a moment before it counts it as in flight.
	noteQuiet = 10 * time.Millisecond
	// noteAge is how old a note must be before it is removed: much longer than the tracker needs to handle one event.
	noteAge = time.Second
)

// noted is a request that was issued and whose completion was not seen.
type noted struct {
	address uint64
	note    trackNote
}

// checkIssueEvent makes sure that the request is the first argument of block_rq_issue, as it is from 5.11 on.
func checkIssueEvent() error {
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return fmt.Errorf("read the kernel's type information: %w", err)
	}
	var event *btf.Typedef
	if err := spec.TypeByName("btf_trace_block_rq_issue", &event); err != nil {
		return fmt.Errorf("find the event block_rq_issue: %w", err)
	}
	pointer, ok := event.Type.(*btf.Pointer)
	if !ok {
		return fmt.Errorf("the event block_rq_issue has an unknown form: %w", ebpf.ErrNotSupported)
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) != 2 { // the first one is the kernel's own
		return fmt.Errorf("the event block_rq_issue has other arguments than from 5.11 on: %w", ebpf.ErrNotSupported)
	}
	return nil
}

// eachNote reads the map of notes; a test makes it eachByOne.
var eachNote = eachByBatch

// notes returns the notes of a disk. A note that exists during the whole call is returned.
func (t *kernelTracker) notes(disk int) ([]noted, error) {
	var all []noted
	for i := range t.slots {
		if n, ok := readSlot(&t.slots[i]); ok && n.note.Index == uint32(disk) {
			all = append(all, n)
		}
	}
	add := func(address uint64, note trackNote) {
		if note.Index == uint32(disk) {
			all = append(all, noted{address, note})
		}
	}
	err := eachNote(t.maps[trackMapNotes], add)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) { // before 5.6
		err = eachByOne(t.maps[trackMapNotes], add)
	}
	if err != nil {
		return all, fmt.Errorf("read the notes of issued requests: %w", err)
	}
	return all, nil
}

// eachByBatch calls add for each note in the map.
func eachByBatch(m *ebpf.Map, add func(address uint64, note trackNote)) error {
	var (
		cursor    ebpf.MapBatchCursor
		addresses [noteBatch]uint64
		notes     [noteBatch]trackNote
	)
	for {
		n, err := m.BatchLookup(&cursor, addresses[:], notes[:], nil)
		for i := range n {
			add(addresses[i], notes[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// eachByOne does the same where the kernel has no batches. A note that goes while it is the cursor makes the kernel begin
// anew; add is then called again for the same notes.
func eachByOne(m *ebpf.Map, add func(address uint64, note trackNote)) error {
	seen := map[uint64]trackNote{}
	var note trackNote
	var address uint64
	notes := m.Iterate()
	for notes.Next(&address, &note) {
		seen[address] = note
	}
	for address, note := range seen {
		add(address, note)
	}
	return notes.Err()
}

// drainNotes hands out what the noted requests change, and settles the notes of requests that completed unseen.
// It comes after the marks: a completion in between is a mark for the next drain.
func (t *kernelTracker) drainNotes(disk int, keep func(word int, bits uint64)) int {
	now := monotonic()
	// Nothing in flight: each request issued before now is complete.
	kernel, err := readKernelCount(t.disks[disk])
	idle := err == nil && kernel.inFlight == 0
	notes, err := t.notes(disk)
	if err != nil {
		// Without the notes nothing can be said to be clean: hand out everything.
		return keepSpan(0, uint64(t.disks[disk].Granules())-1, keep)
	}
	granules := 0
	settled := map[uint64]uint64{}
	for _, n := range notes {
		// What was handed out after its completion needs no second time: else a frozen disk would never look quiet.
		done := t.settled[disk][n.address] == n.note.Issued
		if !done {
			granules += keepSpan(n.note.First, n.note.Last, keep)
			done = idle && n.note.Issued+uint64(noteQuiet) < now
		}
		if done && n.note.Issued+uint64(noteAge) < now {
			t.removeNote(disk, n)
		} else if done {
			settled[n.address] = n.note.Issued
		}
	}
	t.settled[disk] = settled
	return granules
}

// readSlot reads a slot that the kernel may be writing to. One that is being claimed is not seen: its request has just
// been issued, and the next drain sees it.
func readSlot(s *trackSlot) (n noted, ok bool) {
	n.address, n.note.Issued = atomic.LoadUint64(&s.Address), atomic.LoadUint64(&s.Note.Issued)
	if n.address == 0 || n.note.Issued == 0 {
		return n, false
	}
	n.note.First, n.note.Last = atomic.LoadUint64(&s.Note.First), atomic.LoadUint64(&s.Note.Last)
	n.note.Sectors, n.note.Base = atomic.LoadUint64(&s.Note.Sectors), atomic.LoadUint64(&s.Note.Base)
	n.note.Index = atomic.LoadUint32(&s.Note.Index)
	return n, atomic.LoadUint64(&s.Note.Issued) == n.note.Issued && atomic.LoadUint64(&s.Address) == n.address
}

// slotOf returns the slot that holds this note, or nil.
func (t *kernelTracker) slotOf(n noted) *trackSlot {
	if len(t.slots) == 0 {
		return nil
	}
	const golden = 0x9e3779b1 // as in the program
	s := &t.slots[uint32(n.address)*golden>>(32-bits.Len(uint(len(t.slots)-1)))]
	if now, ok := readSlot(s); ok && now.address == n.address && now.note.Issued == n.note.Issued {
		return s
	}
	return nil
}

// removeNote removes a note that was handed out after its request had completed. It is removed first and accounted for
// then: a kill in between looks like sectors that were missed, the other way round it would hide some that are.
func (t *kernelTracker) removeNote(disk int, n noted) {
	b, err := t.baseline(disk)
	if err != nil {
		return // the note stays until the next drain
	}
	if s := t.slotOf(n); s != nil {
		if !atomic.CompareAndSwapUint64(&s.Note.Issued, n.note.Issued, 0) {
			return // the kernel has used the slot again, and accounted for this note
		}
		// The slot stays the request's, which may use it again at this moment.
	} else if t.maps[trackMapNotes].Delete(n.address) != nil {
		return // likewise
	}
	b.Recovered += n.note.Sectors
	_ = t.maps[mapBaselines].Put(uint32(disk), b) // else the sectors count as missed, and the disk is compared
}

// keepSpan hands out the granules first..last and returns how many they are.
func keepSpan(first, last uint64, keep func(word int, bits uint64)) int {
	granules := 0
	for word := first / wordBits; word <= last/wordBits; word++ {
		mask := ^uint64(0)
		if word == first/wordBits {
			mask <<= first % wordBits
		}
		if word == last/wordBits {
			mask &= ^uint64(0) >> (wordBits - 1 - last%wordBits)
		}
		keep(int(word), mask)
		granules += bits.OnesCount64(mask)
	}
	return granules
}

// monotonic is the clock of bpf_ktime_get_ns.
func monotonic() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // then no note is old enough
	}
	return uint64(ts.Nano())
}
