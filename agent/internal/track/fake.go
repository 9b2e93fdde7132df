package track

import (
	"context"
	"sync"
	"sync/atomic"
)

// Fake is a tracker without a kernel, for tests of what uses one: writes are what Mark says.
type Fake struct {
	disks []Disk
	words [][]uint64

	mu     sync.Mutex
	status Status
}

// NewFake returns a tracker of the disks that has seen no write.
func NewFake(disks []Disk) (*Fake, error) {
	o, err := Options{Disks: disks}.normalize()
	if err != nil {
		return nil, err
	}
	f := &Fake{disks: o.Disks, status: Status{Tier: "fake"}}
	for _, d := range o.Disks {
		f.words = append(f.words, make([]uint64, d.Words()))
		f.status.Disks = append(f.status.Disks, DiskStatus{Path: d.Path, Proven: true})
	}
	return f, nil
}

// Mark marks the granules of a write, which must lie within the disk. It may run while another goroutine drains.
func (f *Fake) Mark(disk int, offset, lengthBytes int64) {
	granule := f.disks[disk].GranuleBytes
	for g := offset / granule; lengthBytes > 0 && g <= (offset+lengthBytes-1)/granule; g++ {
		atomic.OrUint64(&f.words[disk][g/wordBits], 1<<(g%wordBits))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Disks[disk].WrittenSectors += uint64(lengthBytes / sectorBytes)
	f.status.Disks[disk].Requests++
}

// SetStatus lets a test change what Status reports.
func (f *Fake) SetStatus(change func(*Status)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.status)
}

// Drain implements [Tracker].
func (f *Fake) Drain(disk int, keep func(word int, bits uint64)) int {
	return drain(f.words[disk], keep)
}

// Status implements [Tracker].
func (f *Fake) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	s.Disks = append([]DiskStatus(nil), s.Disks...)
	return s
}

// Prove implements [Tracker]: it finds what SetStatus put there.
func (f *Fake) Prove(context.Context) error {
	return f.Status().verdict()
}

// Close implements [Tracker].
func (f *Fake) Close() error { return nil }
