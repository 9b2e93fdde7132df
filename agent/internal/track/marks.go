package track

import (
	"fmt"
	"math/bits"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	// chunkMarks is how many byte marks a value of the classic tier's map has, and clearedMarks how many of them one run of
	// its program clears; see bpf/classic.bpf.c.
	chunkMarks   = 4096
	clearedMarks = 64

	wordBytes = 8
)

// marks are words of marks of one disk, shared with the kernel. take moves the marks of count words from first on out of
// them: it hands out each word that has any, and clears exactly those afterwards; it returns their number in bits.
type marks interface {
	take(first, count int, keep func(word int, bits uint64)) (int, error)
}

// mappedMarks are those whose memory this process maps.
type mappedMarks []uint64

func (m mappedMarks) take(first, count int, keep func(word int, bits uint64)) (int, error) {
	return drain(m[first:first+count], keep), nil
}

// copiedMarks are byte marks in a map of chunks that cannot be mapped, as before 5.5: they are copied, and cleared by a
// program. A byte that is set while the program clears it is of a write that has completed, and is read after that.
type copiedMarks struct {
	chunks *ebpf.Map
	clear  *ebpf.Program
	base   int // of the disk, in words
}

func (m copiedMarks) take(first, count int, keep func(word int, bits uint64)) (int, error) {
	const chunkWords = chunkMarks / wordBytes
	var (
		chunk [chunkWords]uint64
		seen  []uint32
		taken int
	)
	for at := m.base + first; at < m.base+first+count; {
		end := min((at/chunkWords+1)*chunkWords, m.base+first+count)
		if err := m.chunks.Lookup(uint32(at/chunkWords), &chunk); err != nil {
			return taken, fmt.Errorf("copy the marks: %w", err)
		}
		for ; at < end; at++ {
			word := chunk[at%chunkWords]
			if word == 0 {
				continue
			}
			keep(at-m.base-first, word)
			taken += bits.OnesCount64(word)
			for i := range wordBytes {
				if word>>(8*i)&0xff != 0 {
					seen = append(seen, uint32(at*wordBytes+i))
				}
			}
		}
		for len(seen) >= clearedMarks || len(seen) > 0 && at == m.base+first+count {
			n := min(len(seen), clearedMarks)
			if err := m.clearAll(seen[:n]); err != nil {
				return taken, err
			}
			seen = seen[n:]
		}
	}
	return taken, nil
}

// clearAll clears up to clearedMarks marks.
func (m copiedMarks) clearAll(positions []uint32) error {
	var packet [clearedMarks]uint32
	for i := range packet {
		packet[i] = ^uint32(0) // beyond the end
	}
	copy(packet[:], positions)
	if _, err := m.clear.Run(&ebpf.RunOptions{Data: unsafe.Slice((*byte)(unsafe.Pointer(&packet)), unsafe.Sizeof(packet))}); err != nil {
		return fmt.Errorf("clear marks: %w", err)
	}
	return nil
}

// canMap tells whether the memory of a map can be shared with a process: from 5.5 on.
func canMap() bool {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: wordBytes, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		return false
	}
	return m.Close() == nil
}
