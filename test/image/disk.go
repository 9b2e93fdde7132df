package image

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The layout of the disk, in bytes from its start: boot sector, GRUB's core in
// the gap, the root partition, and a small swap partition at the end.
const (
	sectorBytes   = 512
	diskBytes     = 3 << 30
	swapBytes     = 128 << 20
	rootOffset    = 2048 * sectorBytes
	swapOffset    = diskBytes - swapBytes
	rootBytes     = swapOffset - rootOffset
	bootCodeBytes = 440 // what follows is the disk signature and the partition table
	tableOffset   = bootCodeBytes
)

// partitionTable returns the bytes 440 to 511 of the boot sector: disk signature,
// two primary partitions (the first active) and the boot signature.
func partitionTable() []byte {
	b := make([]byte, sectorBytes-tableOffset)
	binary.LittleEndian.PutUint32(b, 0x1ed9e123)
	entry := func(n int, active, kind byte, offset, size uint32) {
		e := b[6+16*n:]
		e[0], e[4] = active, kind
		// Cylinders do not matter to anybody who reads LBA: the value for "beyond".
		copy(e[1:4], []byte{0xfe, 0xff, 0xff})
		copy(e[5:8], []byte{0xfe, 0xff, 0xff})
		binary.LittleEndian.PutUint32(e[8:], offset/sectorBytes)
		binary.LittleEndian.PutUint32(e[12:], size/sectorBytes)
	}
	entry(0, 0x80, 0x83, rootOffset, rootBytes)
	entry(1, 0, 0x82, swapOffset, swapBytes)
	copy(b[len(b)-2:], []byte{0x55, 0xaa})
	return b
}

// swapHeader returns the first page of an empty swap partition, as mkswap writes it.
func swapHeader() []byte {
	const page = 4096
	b := make([]byte, page)
	binary.LittleEndian.PutUint32(b[1024:], 1) // version
	binary.LittleEndian.PutUint32(b[1028:], swapBytes/page-1)
	copy(b[1036:], "\x5e\x2b\x4c\x1d\x90\x77\x4a\x61\x8c\x3f\x12\xe4\x55\x0a\x6b\x21") // its UUID
	copy(b[page-10:], "SWAPSPACE2")
	return b
}

// checkBootLoader says whether GRUB's two parts are what they should be, and fit:
// a core that reaches into the first partition would destroy the root filesystem.
func checkBootLoader(boot, core []byte) error {
	if len(boot) != sectorBytes || !bytes.HasSuffix(boot, []byte{0x55, 0xaa}) {
		return fmt.Errorf("boot.img is not a boot sector: %d bytes", len(boot))
	}
	if len(core) < 2*sectorBytes || sectorBytes+len(core) > rootOffset {
		return fmt.Errorf("core.img does not fit before the first partition: %d bytes", len(core))
	}
	return nil
}
