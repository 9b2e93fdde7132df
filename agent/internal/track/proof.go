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

// baseline is where the two accounts of a disk stood when its tracking began.
type baseline struct {
	// Sectors is the kernel's count minus the tracker's.
	Sectors uint64
	Known   uint64
	// Recovered is the number of sectors in notes that user space has settled.
	Recovered uint64
	// Queued is the tracker's count of queued discards minus that of completed ones.
	Queued uint64
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

// readCounts sums up what the program counted for a disk on each CPU.
func (t *kernelTracker) readCounts(disk int) (trackCounts, error) {
	var sum trackCounts
	var perCPU []trackCounts
	if err := t.maps[trackMapCounters].Lookup(uint32(disk), &perCPU); err != nil {
		return sum, fmt.Errorf("read the tracker's counters: %w", err)
	}
	for _, n := range perCPU {
		sum.Written += n.Written
		sum.Discarded += n.Discarded
		sum.Requests += n.Requests
		sum.Passthrough += n.Passthrough
		sum.Unmarked += n.Unmarked
		sum.Recovered += n.Recovered
		sum.Unnoted += n.Unnoted
		sum.Queued += n.Queued
	}
	return sum, nil
}

// observation is one comparison of the two accounts of a disk.
type observation struct {
	kernel kernelCount
	noted  uint64 // sectors of requests whose completion was not seen, or not yet
	counts trackCounts
	// quiet says that nothing was in flight and nothing was counted between two readings.
	quiet bool
}

// observe reads the kernel's account first, then the notes, then the counters. A request is noted or counted by the
// tracker before the kernel counts it, and counted before its note goes. So whatever runs meanwhile, the tracker's sum is
// never behind, unless it missed something.
func (t *kernelTracker) observe(disk int) (observation, error) {
	var o observation
	before, err := readKernelCount(t.disks[disk])
	if err != nil {
		return o, err
	}
	notes, err := t.notes(disk)
	if err != nil {
		return o, err
	}
	for _, n := range notes {
		o.noted += n.note.Sectors
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

// seen is the number of sectors that the tracker knows to be changed.
func (o observation) seen() uint64 {
	return o.counts.Written + o.counts.Discarded + o.counts.Recovered + o.noted
}

// missed returns by how many sectors the kernel's account exceeds that of the tracker.
func missed(o observation, b baseline) uint64 {
	seen := o.seen() + b.Sectors + b.Recovered
	if seen >= o.kernel.sectors {
		return 0
	}
	return o.kernel.sectors - seen
}

// unqueued returns by how many sectors the completed discards exceed those that were queued, of a disk whose discards may
// have several ranges: as many were marked in the wrong place. Only a quiet moment tells; what it told is remembered.
func (t *kernelTracker) unqueued(disk int, o observation, b baseline) uint64 {
	if t.tier.ranges == nil || t.tier.ranges(t.disks[disk]) < 2 {
		return 0
	}
	if ahead := o.counts.Queued - b.Queued - o.counts.Discarded; o.quiet && int64(ahead) < 0 {
		t.unseen[disk] = max(t.unseen[disk], -ahead)
	}
	return t.unseen[disk]
}

// settle records the baselines of the disks that are quiet.
func (t *kernelTracker) settle(ctx context.Context) error {
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
func (t *kernelTracker) baseline(disk int) (baseline, error) {
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
	b.Sectors, b.Queued, b.Known = o.kernel.sectors-o.seen()-b.Recovered, o.counts.Queued-o.counts.Discarded, 1
	if err := t.maps[mapBaselines].Put(uint32(disk), b); err != nil {
		return b, fmt.Errorf("record a baseline: %w", err)
	}
	return b, nil
}

// Status implements [Tracker].
func (t *kernelTracker) Status() Status {
	s := Status{Tier: t.tier.name, Reasons: t.reasons, Resumed: t.resumed}
	if info, err := t.maps[trackMapMarks].Info(); err == nil {
		if id, ok := info.ID(); ok {
			s.Instance = uint64(id)
		}
	}
	for _, p := range t.programs {
		if stats, err := p.Stats(); err == nil {
			s.Skipped += stats.RecursionMisses
		}
	}
	for i, d := range t.disks {
		ds, err := t.diskStatus(i)
		ds.Path = d.Path
		if err != nil {
			ds.Problem = err.Error()
		}
		s.Disks = append(s.Disks, ds)
	}
	return s
}

func (t *kernelTracker) diskStatus(disk int) (DiskStatus, error) {
	n, err := t.readCounts(disk)
	ds := DiskStatus{
		WrittenSectors: n.Written, DiscardedSectors: n.Discarded, Requests: n.Requests,
		Passthrough: n.Passthrough, Unmarked: n.Unmarked, RecoveredSectors: n.Recovered,
	}
	if err != nil {
		return ds, err
	}
	b, err := t.baseline(disk)
	if err != nil || b.Known == 0 {
		return ds, err
	}
	ds.RecoveredSectors += b.Recovered
	o, err := t.observe(disk)
	if err != nil {
		return ds, err
	}
	ds.MissedSectors = missed(o, b) + t.unqueued(disk, o, b)
	ds.Proven = o.quiet && ds.MissedSectors == 0
	return ds, nil
}

// Prove implements [Tracker].
func (t *kernelTracker) Prove(ctx context.Context) error {
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
