package track

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/hint"
)

const (
	// layout is the version of what is in the maps; a program that was pinned with another one is not resumed.
	layout    = 1
	minorBits = 20

	kernelBTF = "/sys/kernel/btf/vmlinux"
)

// btfTracker is the tracker on tp_btf/block_rq_complete, with block_rq_issue as its safety net.
type btfTracker struct {
	disks    []Disk
	words    [][]uint64 // per disk, views of memory
	memory   []byte     // the marks map, shared with the kernel
	maps     map[string]*ebpf.Map
	programs map[string]*ebpf.Program
	links    []link.Link
	resumed  bool
	// settled has, per disk, the notes by address that were handed out after their requests had completed.
	settled []map[uint64]uint64
}

var _ Tracker = (*btfTracker)(nil)

// Open starts to track the disks, or goes on where an earlier process with the same disks, granules and PinDir left it.
// It returns when every write that completes from now on is marked.
func Open(ctx context.Context, o Options) (Tracker, error) {
	o, err := o.normalize()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(kernelBTF); err != nil {
		return nil, hint.Wrap(fmt.Errorf("look for the kernel's type information: %w", err),
			"run a kernel built with CONFIG_DEBUG_INFO_BTF, such as that of Debian 11, Ubuntu 22.04, RHEL 8.2 or newer")
	}
	// Needed before 5.11 only, and harmless where it fails: the load then says so.
	_ = rlimit.RemoveMemlock()
	if o.PinDir != "" {
		if err := makePinDir(o.PinDir); err != nil {
			return nil, err
		}
		if t, err := resume(o); err == nil {
			return t, nil
		}
		if err := Remove(o.PinDir); err != nil {
			return nil, err
		}
		if err := makePinDir(o.PinDir); err != nil {
			return nil, err
		}
	}
	t, err := start(o)
	if err != nil {
		return nil, explain(err)
	}
	if err := t.settle(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// explain attaches a hint to a load that the kernel refused.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return hint.Wrap(err, "run it as root (or with CAP_BPF and CAP_PERFMON), and without kernel lockdown in confidentiality mode")
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return hint.Wrap(err, "run a kernel from 5.12 with CONFIG_BPF_EVENTS and CONFIG_BPF_JIT")
	}
	return err
}

// diskKey is a device number as the program computes it.
func diskKey(d Disk) uint32 { return d.Major<<minorBits | d.Minor }

// entries returns what the disks map must hold.
func (o Options) entries() map[uint32]trackDisk {
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
		base += uint64(d.Words())
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
func start(o Options) (*btfTracker, error) {
	t := &btfTracker{disks: o.Disks}
	if err := t.load(o); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	// The links come last: a folder with all of them is complete.
	for _, name := range programNames {
		l, err := link.AttachTracing(link.TracingOptions{Program: t.programs[name]})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("attach the tracker: %w", err), t.Close())
		}
		t.links = append(t.links, l)
		if o.PinDir == "" {
			continue
		}
		if err := l.Pin(linkPath(o.PinDir, name)); err != nil {
			return nil, errors.Join(fmt.Errorf("pin the tracker: %w", err), t.Close(), Remove(o.PinDir))
		}
	}
	return t, nil
}

// load brings the maps and programs into the kernel; nothing runs yet.
func (t *btfTracker) load(o Options) error {
	spec, err := loadTrack()
	if err != nil {
		return fmt.Errorf("read the tracker's program: %w", err)
	}
	spec.Maps[trackMapMarks].MaxEntries = uint32(o.words())
	spec.Maps[trackMapDisks].MaxEntries = uint32(len(o.Disks))
	spec.Maps[trackMapCounters].MaxEntries = uint32(len(o.Disks))
	if err := checkIssueEvent(); err != nil {
		return err
	}
	var objects trackObjects
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		return fmt.Errorf("load the tracker's program: %w", err)
	}
	t.programs = map[string]*ebpf.Program{trackProgRehostComplete: objects.RehostComplete, trackProgRehostIssue: objects.RehostIssue}
	t.maps = map[string]*ebpf.Map{
		trackMapMarks: objects.Marks, trackMapDisks: objects.Disks, trackMapCounters: objects.Counters, trackMapNotes: objects.Notes,
	}
	baselines, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: mapBaselines, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(baseline{})), MaxEntries: uint32(len(o.Disks)),
	})
	if err != nil {
		return fmt.Errorf("make the map of baselines: %w", err)
	}
	t.maps[mapBaselines] = baselines
	for key, entry := range o.entries() {
		if err := objects.Disks.Put(key, entry); err != nil {
			return fmt.Errorf("enter a disk: %w", err)
		}
	}
	if o.PinDir != "" {
		for name, m := range t.maps {
			if err := m.Pin(filepath.Join(o.PinDir, name)); err != nil {
				return fmt.Errorf("pin the map %s: %w", name, err)
			}
		}
	}
	return t.mapMarks()
}

// mapMarks shares the marks' memory with the kernel.
func (t *btfTracker) mapMarks() error {
	m := t.maps[trackMapMarks]
	page := os.Getpagesize()
	bytes := (int(m.MaxEntries())*8 + page - 1) / page * page
	memory, err := unix.Mmap(m.FD(), 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map the marks: %w", err)
	}
	t.memory, t.settled = memory, make([]map[uint64]uint64, len(t.disks))
	words := unsafe.Slice((*uint64)(unsafe.Pointer(&memory[0])), len(memory)/8)
	for _, d := range t.disks {
		t.words = append(t.words, words[:d.Words():d.Words()])
		words = words[d.Words():]
	}
	return nil
}

// programNames are the programs in the order in which they are attached. A request that is issued before the first and
// completes after the second one is attached is marked, too.
var programNames = []string{trackProgRehostIssue, trackProgRehostComplete}

func linkPath(pinDir, program string) string { return filepath.Join(pinDir, program) }

// Drain implements [Tracker].
func (t *btfTracker) Drain(disk int, keep func(word int, bits uint64)) int {
	granules := drain(t.words[disk], keep)
	return granules + t.drainNotes(disk, keep)
}

// Close implements [Tracker].
func (t *btfTracker) Close() error {
	var errs []error
	if t.memory != nil {
		errs = append(errs, unix.Munmap(t.memory))
		t.memory, t.words = nil, nil
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
