// Package track records which granules of a disk were written to. The record is made by the kernel when a write
// completes and lives in the kernel, so that it goes on while the agent restarts. Marks are drained clear-first: the
// caller clears a mark, then reads the disk; a write that completes in between marks again. The package never reads
// or writes the disks that it tracks.
package track

import (
	"context"
	"fmt"
	"math"

	"rehost/internal/blockdev"
	"rehost/internal/hint"
)

const (
	sectorBytes = 512
	// wordBits is the number of granules whose marks share one word.
	wordBits = 64

	minGranuleBytes = 4 << 10
	maxGranuleBytes = 1 << 30

	defaultGranuleBytes = 16 << 10
	// defaultGranules is how many granules of the default size a disk may have: 4 TiB.
	defaultGranules = 4 << 40 / defaultGranuleBytes
)

// Disk is a disk to track.
type Disk struct {
	// Path is only used in messages.
	Path         string
	Major, Minor uint32
	SizeBytes    int64
	// GranuleBytes is a power of two; 0 means DefaultGranule.
	GranuleBytes int64
}

// Granules is the number of granules, the last of which may be partly beyond the disk's end.
func (d Disk) Granules() int64 { return (d.SizeBytes + d.GranuleBytes - 1) / d.GranuleBytes }

// Words is the number of 64-bit words that hold the disk's marks.
func (d Disk) Words() int { return int((d.Granules() + wordBits - 1) / wordBits) }

// DefaultGranule returns the granule size for a disk: 16 KiB up to 4 TiB, then doubled as often as needed to keep
// the number of granules.
func DefaultGranule(sizeBytes int64) int64 {
	granule := int64(defaultGranuleBytes)
	for (sizeBytes+granule-1)/granule > defaultGranules {
		granule *= 2
	}
	return granule
}

// FindDisk returns the whole disk at path with its default granule.
func FindDisk(path string) (Disk, error) {
	if err := blockdev.CheckWhole(path); err != nil {
		return Disk{}, err
	}
	major, minor, err := blockdev.DevNumber(path)
	if err != nil {
		return Disk{}, err
	}
	size, err := blockdev.SizeBytes(path)
	if err != nil {
		return Disk{}, err
	}
	return Disk{Path: path, Major: major, Minor: minor, SizeBytes: size, GranuleBytes: DefaultGranule(size)}, nil
}

// Options says what to track.
type Options struct {
	Disks []Disk
	// PinDir is a folder in a bpffs where the marks outlive this process; it is made, and a bpffs is mounted on its parent,
	// when missing. Empty: tracking ends with Close.
	PinDir string
	// Tier is one of the names of tiers; empty means TierAuto.
	Tier string
}

// Tracker tells which granules were written to since they were last drained. The granule g of a disk is bit g%64
// of the disk's word g/64. One goroutine may use it at a time.
type Tracker interface {
	// Drain moves the marks of the disk with this index out of the kernel. It hands every word that has marks to keep
	// before it clears exactly these bits, so that a process that is killed at any instruction loses no mark; keep may be
	// called again for the same word with the same or more bits. Writes in flight are handed out as well, and marked
	// again when they complete. It returns the number of granules handed out.
	Drain(disk int, keep func(word int, bits uint64)) int
	// Status reports what was counted and whether it can be trusted. On a disk without I/O, as while its filesystems are
	// frozen, the proof in it is exact.
	Status() Status
	// Prove compares the tracker's counters with the kernel's own, for as long as ctx allows to catch each disk in a quiet
	// moment. It returns an error when sectors were written that the tracker did not see: such a disk must be rescanned.
	Prove(ctx context.Context) error
	// Close releases the tracker. Pinned marks go on being made.
	Close() error
}

// Status is what a tracker knows of itself.
type Status struct {
	// Tier names the implementation, and Reasons say why it is none of the better ones.
	Tier    string
	Reasons []string
	// Periodic says that nothing is tracked: writes are found by comparing everything from time to time, and
	// WrittenSectors is the kernel's own count.
	Periodic bool
	// Resumed says that the marks of an earlier process were found: every write since then is marked. Otherwise tracking
	// started with this process and earlier writes are unknown.
	Resumed bool
	// Instance is a number that the kernel gave to these marks; others that are made later in the same boot have another
	// one. 0: it could not be read.
	Instance uint64
	// Skipped counts how often the kernel says that it did not run a program because it was running already.
	Skipped uint64
	Disks   []DiskStatus
}

// DiskStatus is the state of one disk's tracking since it started, over all processes.
type DiskStatus struct {
	Path string
	// WrittenSectors and DiscardedSectors count sectors of 512 bytes as the tracker saw them complete; Requests counts both.
	WrittenSectors, DiscardedSectors, Requests uint64
	// Passthrough counts commands that may have written where only the driver knows, Unmarked requests that could not be
	// marked fully. Either grows by writes that no mark tells of.
	Passthrough, Unmarked uint64
	// RecoveredSectors counts what was marked late, because the kernel skipped the program at completion.
	RecoveredSectors uint64
	// MissedSectors is by how much the kernel's counters exceed the tracker's, when both were compared, and the completed
	// discards those that were queued where this matters.
	MissedSectors uint64
	// Proven says that the comparison happened in a quiet moment and the counters agreed.
	Proven bool
	// Problem names what kept the counters from being read or compared, or is empty.
	Problem string
}

// Taint names why the marks of a disk are not the whole truth, or is empty. The disk must then be compared as a whole
// (and Taint be remembered: numbers that did not grow since that comparison began are no new reason).
func (d DiskStatus) Taint() string {
	switch {
	case d.Unmarked > 0:
		return fmt.Sprintf("%d requests could not be marked fully", d.Unmarked)
	case d.Passthrough > 0:
		return fmt.Sprintf("%d passthrough commands may have written", d.Passthrough)
	case d.MissedSectors > 0:
		return fmt.Sprintf("%d sectors were written that the tracker did not see", d.MissedSectors)
	}
	return ""
}

// normalize fills in defaults and refuses what the marks cannot express.
func (o Options) normalize() (Options, error) {
	if len(o.Disks) == 0 {
		return o, hint.New("no disk to track", "name at least one whole disk")
	}
	seen := map[uint32]string{}
	disks := make([]Disk, 0, len(o.Disks))
	for _, d := range o.Disks {
		if d.SizeBytes <= 0 {
			return o, hint.New(fmt.Sprintf("disk %s has %d bytes", d.Path, d.SizeBytes), "name a disk with a medium; `lsblk -d` shows sizes")
		}
		if d.GranuleBytes == 0 {
			d.GranuleBytes = DefaultGranule(d.SizeBytes)
		}
		g := d.GranuleBytes
		if g < minGranuleBytes || g > maxGranuleBytes || g&(g-1) != 0 {
			return o, hint.New(fmt.Sprintf("granule of %d bytes for disk %s", g, d.Path), "choose a power of two from 4 KiB to 1 GiB")
		}
		key := diskKey(d)
		if other, ok := seen[key]; ok {
			return o, hint.New(fmt.Sprintf("%s and %s are the same disk", other, d.Path), "name each disk once")
		}
		seen[key] = d.Path
		disks = append(disks, d)
	}
	o.Disks = disks
	if o.words() > math.MaxUint32/8 {
		return o, hint.New("too many granules", "choose a larger granule")
	}
	return o, nil
}

func (o Options) words() int {
	words := 0
	for _, d := range o.Disks {
		words += d.Words()
	}
	return words
}
