package ship

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
	"rehost/protocol"
)

// Layout of the granules' file, in bytes. It is read by the same version of the agent on the same boot only.
const (
	fileMagic  = "RHGRAN03"
	headBytes  = 4096 // magic, crc, length, JSON of identity
	slotBytes  = 128  // two slots, written in turn, so that one of them is whole at any instruction
	tableStart = 2 * headBytes
)

// syncMode is what becomes of a granule that was never durable since the sync began.
type syncMode uint64

const (
	syncUndecided syncMode = 0 // nothing, until the replica has said what it holds
	syncSend      syncMode = 1 // it is sent
	syncCompare   syncMode = 2 // it is sent if its hash differs from the replica's
)

// identity is what must be unchanged for the file's bits to mean anything.
type identity struct {
	Server     string
	Generation string
	BootID     string
	Tracker    string
	Disks      []identityDisk
}

type identityDisk struct {
	Identity     string
	SizeBytes    int64
	GranuleBytes int64
}

// file is need|pending of all disks in memory that outlives the process: the union of both is what the replica may
// lack. Its bits are set before the kernel's are cleared, and cleared only when durable.
type file struct {
	mem   []byte
	words [][]uint64 // of each disk, in mem
	free  [][]uint64 // likewise: granules that the sync left out because no filesystem used them, until they are written to

	counter uint64
	base    protocol.Position // every change after it is in words
	origin  protocol.Session  // made with the file: names what it knows
	epoch   uint64            // of the last hello, which was sent after it was kept here
	synced  bool              // the initial sync is complete
	mode    syncMode          // how the sync that is not complete goes on
	taint   uint64            // the tracker's count of what it could not mark, as far as everything was sent again since
}

func identityOf(cfg Config) identity {
	id := identity{Server: cfg.Server, Generation: cfg.Generation, BootID: cfg.BootID, Tracker: cfg.Tracker}
	for _, d := range cfg.Disks {
		id.Disks = append(id.Disks, identityDisk{Identity: d.Identity, SizeBytes: d.SizeBytes, GranuleBytes: d.GranuleBytes})
	}
	return id
}

func granuleCount(d Disk) int64 { return (d.SizeBytes + d.GranuleBytes - 1) / d.GranuleBytes }
func wordCount(d Disk) int      { return int((granuleCount(d) + 63) / 64) }

// openFile continues the file of an earlier process when it speaks of the same boot, disks, generation and tracker, and
// the tracker missed nothing; otherwise it makes a new one, in which every granule is needed.
func openFile(cfg Config, resumed bool) (f *file, fresh bool, err error) {
	head, err := json.Marshal(identityOf(cfg))
	if err != nil {
		return nil, false, fmt.Errorf("encode identity: %w", err)
	}
	if len(head) > headBytes-16 {
		return nil, false, hint.New("too many disks for one server", "name fewer disks")
	}
	size := tableStart
	for _, d := range cfg.Disks {
		size += 2 * 8 * wordCount(d)
	}
	if resumed {
		if f, err := continueFile(cfg, head, size); err == nil {
			return f, false, nil
		}
	}
	f, err = createFile(cfg, head, size)
	return f, true, err
}

var errOther = errors.New("not the granules of this boot, disks and generation")

func continueFile(cfg Config, head []byte, size int) (*file, error) {
	fd, err := os.OpenFile(cfg.File, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer fd.Close() //nolint:errcheck // the mapping outlives the descriptor
	info, err := fd.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() != int64(size) {
		return nil, errOther
	}
	f, err := mapFile(cfg, fd, size)
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(f.mem[12:])
	same := string(f.mem[:8]) == fileMagic && int(n) == len(head) && bytes.Equal(f.mem[16:16+len(head)], head) &&
		binary.LittleEndian.Uint32(f.mem[8:]) == crc32.ChecksumIEEE(head)
	if !same || !f.readSlots() {
		return nil, errors.Join(errOther, f.close())
	}
	return f, nil
}

func createFile(cfg Config, head []byte, size int) (*file, error) {
	if err := os.MkdirAll(filepath.Dir(cfg.File), 0o700); err != nil {
		return nil, fmt.Errorf("make the agent's folder: %w", err)
	}
	temp := cfg.File + ".new"
	fd, err := os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make the granules' file: %w", err)
	}
	defer fd.Close() //nolint:errcheck // the mapping outlives the descriptor
	// The space is taken now: a full filesystem found later would be a fault in the middle of a store.
	if err := unix.Fallocate(int(fd.Fd()), 0, 0, int64(size)); err != nil {
		return nil, hint.Wrap(fmt.Errorf("make the granules' file of %d bytes: %w", size, err), "make room on "+filepath.Dir(cfg.File))
	}
	f, err := mapFile(cfg, fd, size)
	if err != nil {
		return nil, err
	}
	copy(f.mem, fileMagic)
	binary.LittleEndian.PutUint32(f.mem[8:], crc32.ChecksumIEEE(head))
	binary.LittleEndian.PutUint32(f.mem[12:], uint32(len(head)))
	copy(f.mem[16:], head)
	for i, d := range cfg.Disks {
		fillOnes(f.words[i], granuleCount(d))
	}
	f.origin = newSession()
	f.save()
	if err := os.Rename(temp, cfg.File); err != nil {
		return nil, errors.Join(fmt.Errorf("name the granules' file: %w", err), f.close())
	}
	return f, nil
}

func mapFile(cfg Config, fd *os.File, size int) (*file, error) {
	mem, err := unix.Mmap(int(fd.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the granules' file: %w", err)
	}
	f := &file{mem: mem}
	at := tableStart
	for _, d := range cfg.Disks {
		n := wordCount(d)
		f.words = append(f.words, unsafe.Slice((*uint64)(unsafe.Pointer(&mem[at])), n))
		at += 8 * n
		f.free = append(f.free, unsafe.Slice((*uint64)(unsafe.Pointer(&mem[at])), n))
		at += 8 * n
	}
	return f, nil
}

func (f *file) close() error {
	mem := f.mem
	f.mem, f.words, f.free = nil, nil, nil
	return unix.Munmap(mem)
}

// slot returns where the slot with a counter is kept.
func (f *file) slot(counter uint64) []byte {
	at := headBytes + int(counter%2)*slotBytes
	return f.mem[at : at+slotBytes]
}

// save writes base, epoch, origin, synced, mode and taint. A process that dies in the middle leaves the other slot.
func (f *file) save() {
	f.counter++
	b := f.slot(f.counter)
	binary.LittleEndian.PutUint32(b[sumOffset:], 0)
	binary.LittleEndian.PutUint64(b, f.counter)
	copy(b[8:24], f.base.Session[:])
	binary.LittleEndian.PutUint64(b[24:], f.base.Seq)
	copy(b[32:48], f.base.Digest[:])
	flags := f.taint<<3 | uint64(f.mode)<<1
	if f.synced {
		flags |= 1
	}
	binary.LittleEndian.PutUint64(b[48:], flags)
	binary.LittleEndian.PutUint64(b[56:], f.epoch)
	copy(b[64:80], f.origin[:])
	binary.LittleEndian.PutUint32(b[sumOffset:], slotSum(b))
}

// sumOffset is where a slot keeps its checksum.
const sumOffset = slotBytes - 4

func slotSum(b []byte) uint32 { return crc32.ChecksumIEEE(b[:sumOffset]) | 1 } // never zero

func (f *file) readSlots() bool {
	found := false
	for i := range uint64(2) {
		b := f.slot(i)
		if binary.LittleEndian.Uint32(b[sumOffset:]) != slotSum(b) {
			continue
		}
		counter := binary.LittleEndian.Uint64(b)
		if found && counter < f.counter {
			continue
		}
		found = true
		f.counter = counter
		f.base = protocol.Position{
			Session: protocol.Session(b[8:24]), Seq: binary.LittleEndian.Uint64(b[24:]), Digest: protocol.Digest(b[32:48]),
		}
		flags := binary.LittleEndian.Uint64(b[48:])
		f.synced, f.mode, f.taint = flags&1 != 0, syncMode(flags>>1&3), flags>>3
		f.epoch = binary.LittleEndian.Uint64(b[56:])
		f.origin = protocol.Session(b[64:80])
	}
	return found
}

// or and andNot change a word at once: the file is read by whoever comes after a kill.
func (f *file) or(disk, word int, bits uint64)     { atomic.OrUint64(&f.words[disk][word], bits) }
func (f *file) andNot(disk, word int, bits uint64) { atomic.AndUint64(&f.words[disk][word], ^bits) }

// fillOnes sets the first n bits.
func fillOnes(words []uint64, n int64) {
	for i := range words {
		words[i] = wordMask(i, n)
	}
}

// wordMask is the bits of word i that are below bit n of the whole.
func wordMask(i int, n int64) uint64 {
	if left := n - int64(i)*64; left < 64 {
		return 1<<max(left, 0) - 1
	}
	return ^uint64(0)
}
