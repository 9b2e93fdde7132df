package track

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"rehost/internal/blockdev"
	"rehost/internal/hint"
)

const (
	mapBaselines = "baselines"

	// settleTime is how long the start waits for a quiet moment of each disk; a busy disk gets its baseline later.
	settleTime = 100 * time.Millisecond
	proofPause = 2 * time.Millisecond

	// Positions in /sys/block/*/stat (Documentation/block/stat.rst).
	statWriteSectors   = 6
	statInFlight       = 8
	statDiscardSectors = 13
)

// baseline is the kernel's count of sectors minus that of each copy of the program, when tracking of a disk began.
// The kernel's side counts writes and discards together.
type baseline struct {
	Sectors [copies]uint64
	Known   uint64
}

// kernelCount is the block layer's own account of a disk.
type kernelCount struct {
	sectors  uint64 // written and discarded
	inFlight uint64
}

// readKernelCount reads a disk's counters. The block layer counts a request just after the tracker did.
func readKernelCount(d Disk) (kernelCount, error) {
	sys := blockdev.SysPath(d.Major, d.Minor)
	if on, err := os.ReadFile(filepath.Join(sys, "queue", "iostats")); err == nil && strings.TrimSpace(string(on)) == "0" {
		return kernelCount{}, hint.New("I/O statistics of "+d.Path+" are switched off", "write 1 to "+filepath.Join(sys, "queue", "iostats"))
	}
	text, err := os.ReadFile(filepath.Join(sys, "stat"))
	if err != nil {
		return kernelCount{}, fmt.Errorf("read the counters of %s: %w", d.Path, err)
	}
	return parseKernelCount(string(text))
}

func parseKernelCount(text string) (kernelCount, error) {
	fields := strings.Fields(text)
	number := func(i int) (uint64, error) {
		if i >= len(fields) {
			return 0, nil // older kernels have fewer fields
		}
		return strconv.ParseUint(fields[i], 10, 64)
	}
	written, err1 := number(statWriteSectors)
	discarded, err2 := number(statDiscardSectors)
	inFlight, err3 := number(statInFlight)
	if err := errors.Join(err1, err2, err3); err != nil || len(fields) <= statInFlight {
		return kernelCount{}, fmt.Errorf("counters of a disk in an unknown form: %q", text)
	}
	return kernelCount{sectors: written + discarded, inFlight: inFlight}, nil
}

// readCounts sums up what each copy of the program counted for a disk.
func (t *btfTracker) readCounts(disk int) ([copies]trackCounts, error) {
	var sums [copies]trackCounts
	for c := range copies {
		var perCPU []trackCounts
		if err := t.maps[trackMapCounters].Lookup(uint32(disk*copies+c), &perCPU); err != nil {
			return sums, fmt.Errorf("read the tracker's counters: %w", err)
		}
		for _, n := range perCPU {
			sums[c].Written += n.Written
			sums[c].Discarded += n.Discarded
			sums[c].Requests += n.Requests
			sums[c].Passthrough += n.Passthrough
			sums[c].Unmarked += n.Unmarked
		}
	}
	return sums, nil
}

// observation is one comparison of the two accounts of a disk.
type observation struct {
	kernel kernelCount // read before the tracker's
	counts [copies]trackCounts
	// quiet says that nothing was in flight and nothing was counted between two readings.
	quiet bool
}

func (t *btfTracker) observe(disk int) (observation, error) {
	var o observation
	before, err := readKernelCount(t.disks[disk])
	if err != nil {
		return o, err
	}
	if o.counts, err = t.readCounts(disk); err != nil {
		return o, err
	}
	after, err := readKernelCount(t.disks[disk])
	if err != nil {
		return o, err
	}
	again, err := t.readCounts(disk)
	if err != nil {
		return o, err
	}
	o.kernel = before
	o.quiet = before == after && before.inFlight == 0 && o.counts == again
	return o, nil
}

// missed returns by how many sectors the kernel's account exceeds that of the copy that saw most. A copy may have been
// skipped, so one that agrees is enough; skipped tells per copy how often that happened, and maxSectors how much one
// request can hold. A request is counted by the tracker first, so on a busy disk the tracker is ahead, never behind.
func missed(o observation, b baseline, skipped [copies]uint64, maxSectors uint64) uint64 {
	least := ^uint64(0)
	for c := range copies {
		seen := o.counts[c].Written + o.counts[c].Discarded + b.Sectors[c]
		if seen >= o.kernel.sectors {
			return 0
		}
		gap := o.kernel.sectors - seen
		// Of three copies one always runs: what this one was skipped for, another one marked.
		if gap <= skipped[c]*maxSectors {
			return 0
		}
		least = min(least, gap)
	}
	return least
}

// settle records the baselines of the disks that are quiet.
func (t *btfTracker) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	for i := range t.disks {
		for {
			b, err := t.baseline(i)
			if err != nil || b.Known != 0 || !pause(ctx) {
				break // a disk whose counters cannot be read has a Problem in its status
			}
		}
	}
	return nil
}

// pause waits a little and tells whether there is time left.
func pause(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(proofPause):
		return true
	}
}

// baseline returns the recorded baseline, or records it now if the disk is quiet.
func (t *btfTracker) baseline(disk int) (baseline, error) {
	var b baseline
	if err := t.maps[mapBaselines].Lookup(uint32(disk), &b); err != nil {
		return b, fmt.Errorf("read a baseline: %w", err)
	}
	if b.Known != 0 {
		return b, nil
	}
	o, err := t.observe(disk)
	if err != nil || !o.quiet {
		return b, err
	}
	for c, n := range o.counts {
		b.Sectors[c] = o.kernel.sectors - n.Written - n.Discarded
	}
	b.Known = 1
	if err := t.maps[mapBaselines].Put(uint32(disk), b); err != nil {
		return b, fmt.Errorf("record a baseline: %w", err)
	}
	return b, nil
}

// skips returns how often the kernel skipped each copy, for all disks of the host.
func (t *btfTracker) skips() [copies]uint64 {
	var n [copies]uint64
	for i, p := range t.programs {
		if s, err := p.Stats(); err == nil {
			n[i] = s.RecursionMisses
		}
	}
	return n
}

// Status implements [Tracker].
func (t *btfTracker) Status() Status {
	skipped := t.skips()
	s := Status{Tier: "btf", Resumed: t.resumed}
	for _, n := range skipped {
		s.Skipped += n
	}
	for i, d := range t.disks {
		ds, err := t.diskStatus(i, skipped)
		ds.Path = d.Path
		if err != nil {
			ds.Problem = err.Error()
		}
		s.Disks = append(s.Disks, ds)
	}
	return s
}

func (t *btfTracker) diskStatus(disk int, skipped [copies]uint64) (DiskStatus, error) {
	counts, err := t.readCounts(disk)
	var ds DiskStatus
	for _, n := range counts {
		ds.WrittenSectors = max(ds.WrittenSectors, n.Written)
		ds.DiscardedSectors = max(ds.DiscardedSectors, n.Discarded)
		ds.Requests = max(ds.Requests, n.Requests)
		ds.Passthrough = max(ds.Passthrough, n.Passthrough)
		ds.Unmarked = max(ds.Unmarked, n.Unmarked)
	}
	if err != nil {
		return ds, err
	}
	b, err := t.baseline(disk)
	if err != nil || b.Known == 0 {
		return ds, err
	}
	o, err := t.observe(disk)
	if err != nil {
		return ds, err
	}
	ds.MissedSectors = missed(o, b, skipped, maxRequestSectors(t.disks[disk]))
	ds.Proven = o.quiet && ds.MissedSectors == 0
	return ds, nil
}

// maxRequestSectors is the most that one request to a disk can write or discard.
func maxRequestSectors(d Disk) uint64 {
	most := uint64(0)
	for name, unit := range map[string]uint64{"max_sectors_kb": 1 << 10, "discard_max_bytes": 1, "write_zeroes_max_bytes": 1} {
		text, err := os.ReadFile(filepath.Join(blockdev.SysPath(d.Major, d.Minor), "queue", name))
		if err != nil {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			continue
		}
		most = max(most, n*unit/sectorBytes)
	}
	return most
}

// Prove implements [Tracker].
func (t *btfTracker) Prove(ctx context.Context) error {
	for {
		s := t.Status()
		proven := true
		for _, d := range s.Disks {
			proven = proven && d.Proven
		}
		if err := s.verdict(); err != nil || proven || !pause(ctx) {
			return err
		}
	}
}

// verdict is an error for the disks that had writes which the tracker did not see.
func (s Status) verdict() error {
	var errs []error
	for _, d := range s.Disks {
		if d.MissedSectors > 0 {
			errs = append(errs, hint.New(fmt.Sprintf("disk %s: %s", d.Path, d.Taint()), "rescan the server: its disks must be compared as a whole"))
		}
	}
	return errors.Join(errs...)
}
