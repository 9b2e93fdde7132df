package track

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

const (
	// layout is the version of what is in the maps; a program that was pinned with another one is not resumed.
	layout    = 3
	minorBits = 20

	kernelBTF = "/sys/kernel/btf/vmlinux"
)

// kernelTracker is a tracker with programs in the kernel, of a tier that says which.
type kernelTracker struct {
	tier     *tier
	disks    []Disk
	marks    []marks // per disk
	memory   []byte  // the marks map, shared with the kernel; nil where that cannot be
	slots    []trackSlot
	slotsMem []byte // behind slots, shared with the kernel
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program
	links    []link.Link
	resumed  bool
	reasons  []string // against better tiers
	// settled has, per disk, the notes by address that were handed out after their requests had completed.
	settled []map[uint64]uint64
	unseen  []uint64 // per disk, sectors of discards whose ranges are not known
}

var _ Tracker = (*kernelTracker)(nil)

// diskKey is a device number as the program computes it.
func diskKey(d Disk) uint32 { return d.Major<<minorBits | d.Minor }

// entries returns what the disks map must hold, where each disk has so many elements of marks.
func (o Options) entries(perDisk func(Disk) int) map[uint32]trackDisk {
	all := map[uint32]trackDisk{}
	base := uint64(0)
	for i, d := range o.Disks {
		shift := uint32(0)
		for int64(sectorBytes)<<shift < d.GranuleBytes {
			shift++
		}
		all[diskKey(d)] = trackDisk{
			Base: base, Granules: uint64(d.Granules()), Diskseq: diskseq(d),
			Shift: shift, Index: uint32(i), Layout: layout,
		}
		base += uint64(perDisk(d))
	}
	return all
}

// diskseq is a number that the kernel gives to each new disk (from 5.15), so that a device number that is used again
// is not taken for the disk that had it before. It is 0 where the kernel has none.
func diskseq(d Disk) uint64 {
	text, err := os.ReadFile(filepath.Join(blockdev.SysPath(d.Major, d.Minor), "diskseq"))
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// start loads and attaches the programs and pins everything.
func start(o Options, kind *tier) (*kernelTracker, error) {
	t := &kernelTracker{tier: kind, disks: o.Disks}
	if err := t.load(o); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	// The links come last: a folder with all of them is complete.
	for _, name := range kind.programs {
		l, err := kind.attach(name, t.programs[name])
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach the tracker: %w", err), t.Close())
		}
		t.links = append(t.links, l)
		if o.PinDir == "" {
			continue
		}
		err = l.Pin(linkPath(o.PinDir, name))
		if errors.Is(err, link.ErrNotSupported) { // of classic events before 5.15
			if err := Remove(o.PinDir); err != nil {
				return nil, errors.Join(err, t.Close())
			}
			o.PinDir = ""
			t.reasons = append(t.reasons, kind.name+": tracking ends with the agent, since this kernel pins no tracepoint (before 5.15): a restart leads to a rescan")
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("pin the tracker: %w", err), t.Close(), Remove(o.PinDir))
		}
	}
	return t, nil
}

// load brings the maps and programs into the kernel; nothing runs yet.
func (t *kernelTracker) load(o Options) error {
	spec, err := t.tier.spec()
	if err != nil {
		return err
	}
	spec.Maps[trackMapMarks].MaxEntries = uint32(t.tier.values(o))
	spec.Maps[trackMapDisks].MaxEntries = uint32(len(t.tier.entries(o)))
	spec.Maps[trackMapCounters].MaxEntries = uint32(len(o.Disks))
	objects, err := ebpf.NewCollection(spec)
	if err != nil {
		return fmt.Errorf("load the tracker's program: %w", err)
	}
	t.programs, t.maps = objects.Programs, objects.Maps
	baselines, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: mapBaselines, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(baseline{})), MaxEntries: uint32(len(o.Disks)),
	})
	if err != nil {
		return fmt.Errorf("make the map of baselines: %w", err)
	}
	t.maps[mapBaselines] = baselines
	for key, entry := range t.tier.entries(o) {
		if err := t.maps[trackMapDisks].Put(key, entry); err != nil {
			return fmt.Errorf("enter a disk: %w", err)
		}
	}
	if t.tier.configure != nil {
		if err := t.tier.configure(t.maps); err != nil {
			return err
		}
	}
	if o.PinDir != "" {
		for name, m := range t.maps {
			if strings.HasPrefix(name, ".") { // the program's constants: it holds them itself
				continue
			}
			if err := m.Pin(filepath.Join(o.PinDir, name)); err != nil {
				return fmt.Errorf("pin the map %s: %w", name, err)
			}
		}
		if p := t.programs[classicProgRehostClear]; p != nil {
			if err := p.Pin(linkPath(o.PinDir, classicProgRehostClear)); err != nil {
				return fmt.Errorf("pin the program %s: %w", classicProgRehostClear, err)
			}
		}
	}
	return t.openMarks()
}

// openMarks shares the marks' memory with the kernel, or copies from it where it cannot be mapped.
func (t *kernelTracker) openMarks() error {
	t.settled, t.unseen = make([]map[uint64]uint64, len(t.disks)), make([]uint64, len(t.disks))
	m := t.maps[trackMapMarks]
	if m.Flags()&unix.BPF_F_MMAPABLE == 0 {
		base := 0
		for _, d := range t.disks {
			t.marks = append(t.marks, copiedMarks{chunks: m, clear: t.programs[classicProgRehostClear], base: base})
			base += t.tier.perDisk(d)
		}
		return nil
	}
	memory, err := mapMemory(m, t.tier.perValue*wordBytes)
	if err != nil {
		return fmt.Errorf("map the marks: %w", err)
	}
	t.memory = memory
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), len(memory)/wordBytes)
	for _, d := range t.disks {
		n := t.tier.perDisk(d)
		t.marks = append(t.marks, mappedMarks(words[:n:n]))
		words = words[n:]
	}
	if !t.tier.slots {
		return nil
	}
	return t.mapSlots()
}

// mapMemory maps an array of values of so many bytes.
func mapMemory(m *ebpf.Map, valueBytes int) ([]byte, error) {
	page := os.Getpagesize()
	bytes := (int(m.MaxEntries())*valueBytes + page - 1) / page * page
	return unix.Mmap(m.FD(), 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// mapSlots shares the notes' slots with the kernel.
func (t *kernelTracker) mapSlots() error {
	m := t.maps[trackMapSlots]
	memory, err := mapMemory(m, int(unsafe.Sizeof(trackSlot{})))
	if err != nil {
		return fmt.Errorf("map the notes: %w", err)
	}
	t.slotsMem, t.slots = memory, unsafe.Slice((*trackSlot)(unsafe.Pointer(&memory[0])), m.MaxEntries())
	return nil
}

func linkPath(pinDir, program string) string { return filepath.Join(pinDir, program) }

// Drain implements [Tracker].
func (t *kernelTracker) Drain(disk int, keep func(word int, bits uint64)) int {
	granules, err := t.tier.drain(t.disks[disk], t.marks[disk], keep)
	if err != nil {
		// What was not seen may be anything.
		granules = keepSpan(0, uint64(t.disks[disk].Granules())-1, keep)
	}
	return granules + t.drainNotes(disk, keep)
}

// Close implements [Tracker].
func (t *kernelTracker) Close() error {
	var errs []error
	if t.memory != nil {
		errs = append(errs, unix.Munmap(t.memory))
		t.memory, t.marks = nil, nil
	}
	if t.slotsMem != nil {
		errs = append(errs, unix.Munmap(t.slotsMem))
		t.slotsMem, t.slots = nil, nil
	}
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	for _, p := range t.programs {
		errs = append(errs, p.Close())
	}
	for _, m := range t.maps {
		errs = append(errs, m.Close())
	}
	t.links, t.programs, t.maps = nil, nil, nil
	return errors.Join(errs...)
}
