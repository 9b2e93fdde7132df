package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const testUUID = "ac18a43c-bffe-4691-bc4f-9b900923d828"

// TestIdentify asks the programs that make filesystems.
func TestIdentify(t *testing.T) {
	for _, tt := range []struct {
		want Content
		size int64
		args []string
	}{
		{Content{"ext4", testUUID, "root", 8 << 20}, 8 << 20, []string{"mke2fs", "-q", "-t", "ext4", "-F", "-U", testUUID, "-L", "root"}},
		{Content{"ext3", testUUID, "", 8 << 20}, 8 << 20, []string{"mke2fs", "-q", "-t", "ext3", "-F", "-U", testUUID}},
		{Content{"ext2", testUUID, "", 8 << 20}, 8 << 20, []string{"mke2fs", "-q", "-t", "ext2", "-F", "-U", testUUID}},
		{Content{"xfs", testUUID, "data", 320 << 20}, 320 << 20, []string{"mkfs.xfs", "-q", "-m", "uuid=" + testUUID, "-L", "data"}},
		{Content{"btrfs", testUUID, "pool", 128 << 20}, 128 << 20, []string{"mkfs.btrfs", "-q", "-U", testUUID, "-L", "pool"}},
		{Content{"swap", testUUID, "sw", 0}, 1 << 20, []string{"mkswap", "-q", "-U", testUUID, "-L", "sw"}},
	} {
		t.Run(tt.want.Type, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "fs")
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if err := f.Truncate(tt.size); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tt.args[0], append(tt.args[1:], path)...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", tt.args, err, out)
			}
			got, err := Identify(f, 0, tt.size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("content (-want +got):\n%s", diff)
			}
			parts, err := Parts(f, tt.size)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]Part{{Size: tt.size}}, parts); diff != "" {
				t.Errorf("a disk without a partition table (-want +got):\n%s", diff)
			}
		})
	}
}

func mbr(entries map[int][3]uint32) []byte {
	b := make([]byte, sector)
	binary.LittleEndian.PutUint32(b[440:], 0x1ed9e123)
	for i, e := range entries {
		b[446+16*i+4] = byte(e[0])
		binary.LittleEndian.PutUint32(b[446+16*i+8:], e[1])
		binary.LittleEndian.PutUint32(b[446+16*i+12:], e[2])
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

func TestMBRWithLogicalPartitions(t *testing.T) {
	disk := make([]byte, 1<<20)
	copy(disk, mbr(map[int][3]uint32{0: {0x83, 64, 100}, 2: {0x05, 200, 1000}}))
	copy(disk[200*sector:], mbr(map[int][3]uint32{0: {0x83, 8, 100}, 1: {0x05, 300, 500}}))
	copy(disk[500*sector:], mbr(map[int][3]uint32{0: {0x82, 8, 50}}))
	got, err := Parts(bytes.NewReader(disk), int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Part{
		{Number: 1, Offset: 64 * sector, Size: 100 * sector, PartUUID: "1ed9e123-01"},
		{Number: 5, Offset: 208 * sector, Size: 100 * sector, PartUUID: "1ed9e123-05"},
		{Number: 6, Offset: 508 * sector, Size: 50 * sector, PartUUID: "1ed9e123-06"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

func TestGPT(t *testing.T) {
	disk := make([]byte, 1<<20)
	copy(disk, mbr(map[int][3]uint32{0: {0xee, 1, 2047}}))
	h := disk[sector:]
	copy(h, "EFI PART")
	binary.LittleEndian.PutUint64(h[72:], 2)
	binary.LittleEndian.PutUint32(h[80:], 128)
	binary.LittleEndian.PutUint32(h[84:], 128)
	e := disk[2*sector+128:]
	copy(e, "Hah!IdontNeedEFI") // GRUB's core image: the bytes are in mixed order
	copy(e[16:], []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	copy(e[56:], "g\x00r\x00\xfc\x00b\x00")
	binary.LittleEndian.PutUint64(e[32:], 100)
	binary.LittleEndian.PutUint64(e[40:], 199)
	got, err := Parts(bytes.NewReader(disk), int64(len(disk)))
	if err != nil {
		t.Fatal(err)
	}
	want := []Part{{
		Number: 2, Offset: 100 * sector, Size: 100 * sector,
		PartUUID: "04030201-0605-0807-090a-0b0c0d0e0f10", Type: "21686148-6449-6e6f-744e-656564454649", Label: "grüb",
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("partitions (-want +got):\n%s", diff)
	}
}

func TestTruncatedDisk(t *testing.T) {
	disk := make([]byte, 1<<20)
	copy(disk, mbr(map[int][3]uint32{0: {0x83, 64, 1 << 20}}))
	if _, err := Parts(bytes.NewReader(disk), int64(len(disk))); !errors.Is(err, ErrTruncated) {
		t.Errorf("got %v, want %v", err, ErrTruncated)
	}
}

func FuzzParts(f *testing.F) {
	f.Add(mbr(map[int][3]uint32{0: {0x83, 1, 1}, 1: {5, 1, 2}}), []byte("EFI PART"))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		disk := make([]byte, 64<<10)
		copy(disk[sector:], second)
		copy(disk[:sector], first)
		parts, err := Parts(bytes.NewReader(disk), int64(len(disk)))
		for _, p := range parts {
			if p.Offset < 0 || p.Size <= 0 || p.Offset+p.Size > int64(len(disk)) {
				t.Errorf("got partition %+v, %v", p, err)
			}
		}
	})
}

// arrayMember returns a piece of a disk with a superblock of version 1 at the given place.
func arrayMember(size, at int64) []byte {
	disk := make([]byte, size)
	copy(disk[1080:], "\x53\xef") // as if it was a filesystem: the array's content, when the superblock is at the end
	b := disk[at:]
	le := binary.LittleEndian
	le.PutUint32(b, raidMagic)
	le.PutUint32(b[4:], 1)
	copy(b[16:], []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16})
	copy(b[32:], "ledger:root")
	le.PutUint32(b[72:], 1)
	le.PutUint32(b[92:], 2)
	le.PutUint64(b[144:], uint64(at/sector))
	return disk
}

func TestMembersOfArrays(t *testing.T) {
	const size = 1 << 20
	want := Array{UUID: "01020304:05060708:090a0b0c:0d0e0f10", Name: "root", Level: 1, Members: 2}
	for name, at := range map[string]int64{"1.0": (size/sector - 16) &^ 7 * sector, "1.1": 0, "1.2": 4096} {
		disk := arrayMember(size, at)
		got, ok := ReadArray(bytes.NewReader(disk), 0, size)
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", name, ok, diff)
		}
		c, err := Identify(bytes.NewReader(disk), 0, size)
		if err != nil || c.Type != "linux_raid_member" || c.UUID != want.UUID {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
}

// TestLastPartitionOfADiskIsNotTheDisk has a superblock at the end of a partition that ends with the disk.
func TestLastPartitionOfADiskIsNotTheDisk(t *testing.T) {
	const size, start = 1 << 20, 64 * sector
	disk := append(make([]byte, start), arrayMember(size-start, ((size-start)/sector-16)&^7*sector)...)
	copy(disk, mbr(map[int][3]uint32{0: {0xfd, 64, size/sector - 64}}))
	got, err := Parts(bytes.NewReader(disk), size)
	if err != nil || len(got) != 1 || got[0].Number != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestOldArray(t *testing.T) {
	const size = 1 << 20
	disk := make([]byte, size)
	b := disk[size-64<<10:]
	le := binary.LittleEndian
	for at, v := range map[int]uint32{0: raidMagic, 20: 0xa, 52: 0xb, 56: 0xc, 60: 0xd, 28: 1, 40: 2, 44: 3} {
		le.PutUint32(b[at:], v)
	}
	got, ok := ReadArray(bytes.NewReader(disk), 0, size)
	want := Array{UUID: "0000000a:0000000b:0000000c:0000000d", Name: "3", Level: 1, Members: 2}
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("%v (-want +got):\n%s", ok, diff)
	}
}

func TestForeignContent(t *testing.T) {
	for magic, want := range map[string]string{"\xeb\x52\x90NTFS    ": "ntfs", "\xeb\x58\x90-FVE-FS-": "BitLocker"} {
		disk := make([]byte, 16<<10)
		copy(disk, magic)
		if c, err := Identify(bytes.NewReader(disk), 0, int64(len(disk))); err != nil || c.Type != want {
			t.Errorf("got %+v, %v, want %s", c, err, want)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add(arrayMember(16<<10, 4096))
	f.Add([]byte("LUKS\xba\xbe"))
	f.Fuzz(func(t *testing.T, disk []byte) {
		if c, err := Identify(bytes.NewReader(disk), 0, int64(len(disk))); err == nil && c.Size < 0 {
			t.Errorf("got %+v", c)
		}
	})
}
