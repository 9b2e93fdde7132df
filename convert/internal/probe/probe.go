// Package probe reads partition tables and the first blocks of filesystems, to
// tell what is where on a disk. It only reads, and mounts nothing.
package probe

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf16"
)

const sector = 512

// Part is a partition, or a whole disk without a partition table (number 0).
type Part struct {
	Number   int
	Offset   int64 // bytes
	Size     int64 // bytes
	PartUUID string
	Type     string // in a GPT; empty in other tables
	Label    string // in a GPT
}

// Content is what a partition holds. Type is empty when it is not known.
type Content struct {
	Type, UUID, Label string
	Size              int64 // what the filesystem takes by its own account, in bytes; 0: not known
}

// maxParts bounds a partition table.
const maxParts = 256

// ErrTruncated says that a partition reaches beyond the end of its disk.
var ErrTruncated = errors.New("partition reaches beyond the end of the disk")

// Parts reads the partition table of a disk of the given size in bytes.
func Parts(disk io.ReaderAt, size int64) ([]Part, error) {
	var mbr [sector]byte
	if _, err := disk.ReadAt(mbr[:], 0); err != nil {
		return nil, fmt.Errorf("read the first sector: %w", err)
	}
	// A filesystem's boot sector has the same signature.
	if c, err := Identify(disk, 0, size); err == nil && c.Type != "" {
		return []Part{{Size: size}}, nil
	}
	if mbr[510] != 0x55 || mbr[511] != 0xaa {
		return []Part{{Size: size}}, nil
	}
	var parts []Part
	var err error
	if mbr[446+4] == 0xee {
		parts, err = gptParts(disk)
	} else {
		parts, err = mbrParts(disk, mbr[:])
	}
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.Offset <= 0 || p.Size <= 0 || p.Offset > size-p.Size {
			return nil, fmt.Errorf("partition %d: %w", p.Number, ErrTruncated)
		}
	}
	return parts, nil
}

func mbrParts(disk io.ReaderAt, mbr []byte) ([]Part, error) {
	signature := binary.LittleEndian.Uint32(mbr[440:])
	var parts []Part
	add := func(n int, start, sectors int64) {
		parts = append(parts, Part{
			Number: n, Offset: start * sector, Size: sectors * sector,
			PartUUID: fmt.Sprintf("%08x-%02x", signature, n),
		})
	}
	next := 5
	for i := range 4 {
		kind, start, sectors := mbrEntry(mbr, i)
		switch kind {
		case 0:
		case 0x05, 0x0f, 0x85:
			var ebr [sector]byte
			for at := start; at != 0 && next < maxParts; {
				if _, err := disk.ReadAt(ebr[:], at*sector); err != nil {
					return nil, fmt.Errorf("read the extended partition table: %w", err)
				}
				if kind, s, n := mbrEntry(ebr[:], 0); kind != 0 {
					add(next, at+s, n)
					next++
				}
				_, link, _ := mbrEntry(ebr[:], 1)
				if link == 0 {
					break
				}
				at = start + link
			}
		default:
			add(i+1, start, sectors)
		}
	}
	return parts, nil
}

func mbrEntry(mbr []byte, i int) (kind byte, start, sectors int64) {
	e := mbr[446+16*i:]
	return e[4], int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
}

func gptParts(disk io.ReaderAt) ([]Part, error) {
	var h [sector]byte
	if _, err := disk.ReadAt(h[:], sector); err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	if string(h[:8]) != "EFI PART" {
		return nil, errors.New("read the partition table: no GPT header")
	}
	at := binary.LittleEndian.Uint64(h[72:])
	count, size := binary.LittleEndian.Uint32(h[80:]), binary.LittleEndian.Uint32(h[84:])
	if size < 128 || size > 4096 || count > maxParts || at > 1<<40 {
		return nil, errors.New("read the partition table: bad GPT header")
	}
	table := make([]byte, int(count)*int(size))
	if _, err := disk.ReadAt(table, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("read the partition table: %w", err)
	}
	var parts []Part
	for i := range int(count) {
		e := table[i*int(size):]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		first, last := int64(binary.LittleEndian.Uint64(e[32:])), int64(binary.LittleEndian.Uint64(e[40:]))
		if first < 0 || last < first || last > 1<<50 {
			return nil, fmt.Errorf("read the partition table: partition %d is bad", i+1)
		}
		parts = append(parts, Part{
			Number: i + 1, Offset: first * sector, Size: (last - first + 1) * sector,
			PartUUID: mixedUUID(e[16:32]), Type: mixedUUID(e[:16]), Label: nameOf(e[56:128]),
		})
	}
	return parts, nil
}

// nameOf reads a name of UTF-16 that a zero ends.
func nameOf(field []byte) string {
	var units []uint16
	for i := 0; i+1 < len(field); i += 2 {
		u := binary.LittleEndian.Uint16(field[i:])
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units))
}

// Identify tells what is in the size bytes from offset on.
func Identify(disk io.ReaderAt, offset, size int64) (Content, error) {
	head := make([]byte, 70<<10)
	n, err := disk.ReadAt(head[:min(int64(len(head)), size)], offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return Content{}, fmt.Errorf("read the start of a filesystem: %w", err)
	}
	if n < 8192 {
		return Content{}, nil
	}
	// A member whose superblock is at its end looks like what is in the array.
	if a, ok := ReadArray(disk, offset, size); ok {
		return Content{Type: "linux_raid_member", UUID: a.UUID, Label: a.Name}, nil
	}
	at := func(off int, magic string) bool { return bytes.HasPrefix(head[off:], []byte(magic)) }
	switch {
	case at(1080, "\x53\xef"):
		return extContent(head[1024:]), nil
	case at(0, "XFSB"):
		be := binary.BigEndian
		return Content{Type: "xfs", UUID: uuid(head[32:]), Label: label(head[108:120]), Size: product(be.Uint64(head[8:]), uint64(be.Uint32(head[4:])))}, nil
	case at(0x10040, "_BHRfS_M"):
		return Content{
			Type: "btrfs", UUID: uuid(head[0x10020:]), Label: label(head[0x1012b : 0x1012b+256]),
			Size: product(binary.LittleEndian.Uint64(head[0x100d1:]), 1),
		}, nil
	case at(4086, "SWAPSPACE2"):
		return Content{Type: "swap", UUID: uuid(head[1036:]), Label: label(head[1052:1068])}, nil
	case at(0, "LUKS\xba\xbe"):
		return Content{Type: "crypto_LUKS", UUID: label(head[168:208])}, nil
	case at(512, "LABELONE"):
		return Content{Type: "LVM2_member", UUID: lvmID(head[512+32:])}, nil
	case at(82, "FAT32   "):
		return Content{Type: "vfat", UUID: fatSerial(head[67:]), Label: label(head[71:82])}, nil
	case at(54, "FAT1"):
		return Content{Type: "vfat", UUID: fatSerial(head[39:]), Label: label(head[43:54])}, nil
	}
	return Content{Type: foreign(at)}, nil
}

// foreign names what no conversion works on, so that a refusal can say it.
func foreign(at func(off int, magic string) bool) string {
	for _, f := range []struct {
		offset      int
		magic, name string
	}{
		{3, "NTFS    ", "ntfs"},
		{3, "-FVE-FS-", "BitLocker"},
		{3, "ReFS", "ReFS"},
		{3, "EXFAT   ", "exfat"},
		{0x10034, "ReIsEr", "reiserfs"},
		{0x8000, "JFS1", "jfs"},
		{1024, "\x10\x20\xf5\xf2", "f2fs"},
	} {
		if at(f.offset, f.magic) {
			return f.name
		}
	}
	return ""
}

func extContent(super []byte) Content {
	le := binary.LittleEndian
	blocks := uint64(le.Uint32(super[4:]))
	if le.Uint32(super[96:])&0x80 != 0 { // 64 bit
		blocks |= uint64(le.Uint32(super[336:])) << 32
	}
	return Content{
		Type: extType(super), UUID: uuid(super[104:]), Label: label(super[120:136]),
		Size: product(blocks, 1024<<min(le.Uint32(super[24:]), 6)),
	}
}

// product is a size of untrusted factors; 0 when it is too large to be one.
func product(a, b uint64) int64 {
	const limit = 1 << 60
	if a == 0 || b == 0 || a > limit/b {
		return 0
	}
	return int64(a * b)
}

// lvmID writes an identifier as LVM does.
func lvmID(b []byte) string {
	s := label(b[:32])
	if len(s) != 32 {
		return ""
	}
	return s[:6] + "-" + s[6:10] + "-" + s[10:14] + "-" + s[14:18] + "-" + s[18:22] + "-" + s[22:26] + "-" + s[26:]
}

func extType(super []byte) string {
	compatible, incompatible := binary.LittleEndian.Uint32(super[92:]), binary.LittleEndian.Uint32(super[96:])
	switch {
	case incompatible&^0x1f != 0 && incompatible&0x3c0 != 0: // extents, 64 bit, flexible groups
		return "ext4"
	case compatible&4 != 0:
		return "ext3"
	}
	return "ext2"
}

func uuid(b []byte) string {
	s := hex.EncodeToString(b[:16])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// mixedUUID is a GUID as GPT stores it: the first three parts in little-endian order.
func mixedUUID(b []byte) string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint16(b[4:]),
		binary.LittleEndian.Uint16(b[6:]), b[8:10], b[10:16])
}

func fatSerial(b []byte) string {
	return fmt.Sprintf("%02X%02X-%02X%02X", b[3], b[2], b[1], b[0])
}

func label(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "")
}
