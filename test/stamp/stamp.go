package stamp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Sector is the unit of a stamp: the least that a disk writes whole.
const Sector = 512

// layout of a stamp; the rest of the sector is noise that depends on the counter, so that nothing compresses.
const (
	atSeed    = 8
	atDisk    = 16
	atFile    = 20
	atSector  = 24
	atCounter = 32
	atNoise   = 40
	atCRC     = Sector - 4
)

var (
	magic      = []byte("REHOSTST")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Stamp says who wrote a sector, and when.
type Stamp struct {
	Seed    uint64 // of the run
	Disk    uint32
	File    uint32 // of its filesystem; 0: the raw disk
	Sector  uint64 // within the disk or the file
	Counter uint64 // of the writer: counts its writes
}

// Fill stamps every sector of b; s says what the first one is.
func (s Stamp) Fill(b []byte) {
	for ; len(b) >= Sector; b = b[Sector:] {
		copy(b, magic)
		binary.LittleEndian.PutUint64(b[atSeed:], s.Seed)
		binary.LittleEndian.PutUint32(b[atDisk:], s.Disk)
		binary.LittleEndian.PutUint32(b[atFile:], s.File)
		binary.LittleEndian.PutUint64(b[atSector:], s.Sector)
		binary.LittleEndian.PutUint64(b[atCounter:], s.Counter)
		x := s.Seed ^ s.Sector<<32 ^ s.Counter<<8 ^ uint64(s.File) | 1
		for at := atNoise; at < atCRC; at += 4 {
			x ^= x << 13 // xorshift: fast, and no two sectors alike
			x ^= x >> 7
			x ^= x << 17
			binary.LittleEndian.PutUint32(b[at:], uint32(x))
		}
		binary.LittleEndian.PutUint32(b[atCRC:], crc32.Checksum(b[:atCRC], castagnoli))
		s.Sector++
	}
}

// Describe says for people what a sector holds.
func Describe(b []byte) string {
	switch {
	case len(bytes.TrimLeft(b, "\x00")) == 0:
		return "zeros"
	case !bytes.HasPrefix(b, magic):
		return fmt.Sprintf("no stamp (%x...)", b[:8])
	}
	s := Stamp{
		Seed: binary.LittleEndian.Uint64(b[atSeed:]), Disk: binary.LittleEndian.Uint32(b[atDisk:]), File: binary.LittleEndian.Uint32(b[atFile:]),
		Sector: binary.LittleEndian.Uint64(b[atSector:]), Counter: binary.LittleEndian.Uint64(b[atCounter:]),
	}
	torn := ""
	if binary.LittleEndian.Uint32(b[atCRC:]) != crc32.Checksum(b[:atCRC], castagnoli) {
		torn = ", TORN"
	}
	return fmt.Sprintf("write %d of file %d, sector %d, disk %d, seed %d%s", s.Counter, s.File, s.Sector, s.Disk, s.Seed, torn)
}
