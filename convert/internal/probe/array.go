package probe

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Array is what a member says of the software RAID that it belongs to (Documentation/admin-guide/md.rst,
// include/uapi/linux/raid/md_p.h).
type Array struct {
	UUID    string // as mdadm writes it: four groups of eight digits
	Name    string // without the host's name; of version 0.90, the number of its device
	Level   int
	Members int // of the whole array
	Events  uint64
}

const raidMagic = 0xa92b4efc

// ReadArray returns what a piece of a disk says of its array, if it is a member of one. The superblock is at the
// start, 4 KiB after it, or at the end, according to its version.
func ReadArray(disk io.ReaderAt, offset, size int64) (Array, bool) {
	for _, at := range []int64{0, 4096, (size/sector - 16) &^ 7 * sector} {
		b := make([]byte, 256)
		if at < 0 || at > size-int64(len(b)) {
			continue
		}
		if _, err := disk.ReadAt(b, offset+at); err != nil {
			continue
		}
		le := binary.LittleEndian
		// Each says where it is: one at the end of a disk may be that of its last partition.
		if le.Uint32(b) != raidMagic || le.Uint32(b[4:]) != 1 || int64(le.Uint64(b[144:])) != at/sector {
			continue
		}
		return Array{
			UUID: groups(b[16:32]), Name: withoutHost(label(b[32:64])),
			Level: int(int32(le.Uint32(b[72:]))), Members: int(le.Uint32(b[92:])), Events: le.Uint64(b[200:]),
		}, true
	}
	return readOldArray(disk, offset, size)
}

// readOldArray reads a superblock of version 0.90. It does not say where it is, so a disk with a
// partition table is not asked: it may be that of the last partition.
func readOldArray(disk io.ReaderAt, offset, size int64) (Array, bool) {
	const block = 64 << 10
	b, first := make([]byte, 256), make([]byte, sector)
	at := size&^(block-1) - block
	if at <= 0 {
		return Array{}, false
	}
	if _, err := disk.ReadAt(b, offset+at); err != nil {
		return Array{}, false
	}
	if _, err := disk.ReadAt(first, offset); err != nil || bytes.HasSuffix(first, []byte{0x55, 0xaa}) {
		return Array{}, false
	}
	le := binary.LittleEndian
	if le.Uint32(b) != raidMagic || le.Uint32(b[4:]) != 0 {
		return Array{}, false
	}
	return Array{
		UUID: fmt.Sprintf("%08x:%08x:%08x:%08x", le.Uint32(b[20:]), le.Uint32(b[52:]), le.Uint32(b[56:]), le.Uint32(b[60:])),
		Name: fmt.Sprint(le.Uint32(b[44:])), Level: int(int32(le.Uint32(b[28:]))), Members: int(le.Uint32(b[40:])),
	}, true
}

func groups(b []byte) string {
	s := hex.EncodeToString(b)
	return s[:8] + ":" + s[8:16] + ":" + s[16:24] + ":" + s[24:]
}

func withoutHost(name string) string {
	if _, after, ok := strings.Cut(name, ":"); ok {
		return after
	}
	return name
}
