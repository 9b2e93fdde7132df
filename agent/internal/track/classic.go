package track

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

const (
	tracefs   = "/sys/kernel/tracing"
	eventsDir = "events/block"

	// Three levels of marks, each 64 times coarser; see bpf/classic.bpf.c.
	levels        = 3
	levelShift    = 6
	marksPerWord  = 8
	maxFieldStart = 255
)

// classicEvents are the events that the classic programs take, in the order of the program's layout map.
var classicEvents = []struct{ event, program string }{
	{"block_rq_complete", classicProgRehostComplete},
	{"block_rq_issue", classicProgRehostIssue},
	{"block_bio_queue", classicProgRehostQueue},
	{"block_rq_requeue", classicProgRehostRequeue},
}

// mapsClassic tells whether the classic tier maps its marks; a test makes it false.
var mapsClassic = canMap

// classicTier marks bytes from the classic tracepoints, whose fields tracefs describes. It is for kernels without type
// information.
var classicTier = &tier{
	name:      TierClassic,
	available: func() error { _, err := readLayout(); return err },
	spec: func() (*ebpf.CollectionSpec, error) {
		spec, err := loadClassic()
		if err != nil {
			return nil, fmt.Errorf("read the tracker's program: %w", err)
		}
		if mapsClassic() {
			delete(spec.Programs, classicProgRehostClear)
		} else {
			spec.Maps[classicMapMarks].Flags &^= unix.BPF_F_MMAPABLE
		}
		return spec, nil
	},
	configure: func(maps map[string]*ebpf.Map) error {
		fields, err := readLayout()
		if err != nil {
			return err
		}
		for i, f := range fields {
			if err := maps[classicMapLayout].Put(uint32(i), f); err != nil {
				return fmt.Errorf("enter the layout of an event: %w", err)
			}
		}
		return nil
	},
	programs: []string{classicProgRehostQueue, classicProgRehostRequeue, classicProgRehostIssue, classicProgRehostComplete},
	attach:   attachClassic,
	perDisk: func(d Disk) int {
		words := 0
		for level := range levels {
			words += levelWords(d, level)
		}
		return words
	},
	perValue: chunkMarks / wordBytes,
	ranges:   discardRanges,
	aliases:  partitions,
	drain:    drainBytes,
}

func attachClassic(name string, p *ebpf.Program) (l link.Link, err error) {
	err = withTracefs(func(string) error {
		for _, e := range classicEvents {
			if e.program == name {
				l, err = link.Tracepoint("block", e.event, p, nil)
				return err
			}
		}
		return fmt.Errorf("program %s has no event", name)
	})
	return l, err
}

// withTracefs runs fn with the folder of a tracefs, which is mounted for that time where nobody has done so.
func withTracefs(fn func(dir string) error) error {
	if _, err := os.Stat(filepath.Join(tracefs, eventsDir)); err == nil {
		return fn(tracefs)
	}
	if err := unix.Mount("tracefs", tracefs, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount a tracefs on %s: %w", tracefs, err)
	}
	defer unix.Unmount(tracefs, unix.MNT_DETACH) //nolint:errcheck // somebody uses it by now: then it stays
	return fn(tracefs)
}

// readLayout finds the fields of the events.
func readLayout() (all []classicFields, err error) {
	err = withTracefs(func(dir string) error {
		for _, e := range classicEvents {
			text, err := os.ReadFile(filepath.Join(dir, eventsDir, e.event, "format"))
			if err != nil {
				return fmt.Errorf("read the format of an event: %w", err)
			}
			f, err := parseFormat(string(text))
			if err != nil {
				return fmt.Errorf("event %s: %w", e.event, err)
			}
			all = append(all, f)
		}
		return nil
	})
	return all, err
}

// parseFormat reads a format file of tracefs (Documentation/trace/events.rst): lines such as
// "field:sector_t sector;	offset:16;	size:8;	signed:0;".
func parseFormat(text string) (f classicFields, err error) {
	found := map[string]bool{}
	for line := range strings.Lines(text) {
		declaration, rest, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "field:")), ";")
		if !ok || !strings.HasPrefix(strings.TrimSpace(line), "field:") {
			continue
		}
		words := strings.Fields(declaration)
		if len(words) == 0 {
			continue
		}
		name, _, isArray := strings.Cut(words[len(words)-1], "[")
		want := map[string]struct {
			to    *uint32
			bytes uint64 // 0: an array of any size from two bytes on
		}{"dev": {&f.Dev, 4}, "sector": {&f.Sector, 8}, "nr_sector": {&f.NrSector, 4}, "rwbs": {&f.Rwbs, 0}}[name]
		if want.to == nil {
			continue
		}
		offset, size, err := placeOf(rest)
		if err != nil || offset > maxFieldStart || want.bytes > 0 && (size != want.bytes || isArray) || want.bytes == 0 && (size < 2 || !isArray) {
			return f, fmt.Errorf("the field %s has an unknown form: %q", name, strings.TrimSpace(line))
		}
		*want.to, found[name] = uint32(offset), true
	}
	if len(found) != 4 {
		return f, fmt.Errorf("of the fields dev, sector, nr_sector and rwbs there are %d", len(found))
	}
	return f, nil
}

// placeOf reads "offset:16;	size:8;" and what follows.
func placeOf(text string) (offset, size uint64, err error) {
	for item := range strings.SplitSeq(text, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(item), ":")
		to := map[string]*uint64{"offset": &offset, "size": &size}[key]
		if to == nil {
			continue
		}
		if *to, err = strconv.ParseUint(value, 10, 16); err != nil {
			return 0, 0, err
		}
	}
	return offset, size, nil
}

// partitions returns the numbers of a disk's partitions: block_bio_queue speaks of those (from 5.12 on with sectors of
// the whole disk; before, the partition has become the disk by then).
func partitions(d Disk) []uint32 {
	dir, err := filepath.EvalSymlinks(blockdev.SysPath(d.Major, d.Minor))
	if err != nil {
		return nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "partition"))
	if err != nil {
		return nil
	}
	var all []uint32
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(f), "dev"))
		if err != nil {
			continue
		}
		major, minor, _ := strings.Cut(strings.TrimSpace(string(text)), ":")
		a, errA := strconv.ParseUint(major, 10, 12)
		b, errB := strconv.ParseUint(minor, 10, minorBits)
		if errA == nil && errB == nil {
			all = append(all, uint32(a)<<minorBits|uint32(b))
		}
	}
	return all
}

// levelGranules is how many marks a level has, and levelWords in how many words of eight they lie.
func levelGranules(d Disk, level int) int64 {
	n := d.Granules()
	for range level {
		n = n>>levelShift + 1
	}
	return n
}

func levelWords(d Disk, level int) int {
	return int((levelGranules(d, level) + marksPerWord - 1) / marksPerWord)
}

// drainBytes moves the marks of all levels out.
func drainBytes(d Disk, m marks, keep func(word int, bits uint64)) (int, error) {
	granules, base := 0, 0
	for level := range levels {
		n, err := m.take(base, levelWords(d, level), func(word int, marks uint64) {
			for i := range marksPerWord {
				if marks>>(8*i)&0xff != 0 {
					first := (uint64(word)*marksPerWord + uint64(i)) << (levelShift * level)
					last := min(first+1<<(levelShift*level)-1, uint64(d.Granules())-1)
					if first <= last {
						keepSpan(first, last, keep)
					}
				}
			}
		})
		granules += n
		if err != nil {
			return granules, err
		}
		base += levelWords(d, level)
	}
	return granules, nil
}

// discardRanges is how many ranges one discard of a disk may have. Where the kernel does not say, there may be many.
func discardRanges(d Disk) uint32 {
	text, err := os.ReadFile(filepath.Join(blockdev.SysPath(d.Major, d.Minor), "queue", "max_discard_segments"))
	if err != nil {
		return math.MaxUint32
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 32)
	if err != nil {
		return math.MaxUint32
	}
	return uint32(n)
}
