package appliance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"rehost/internal/command"
)

// The disk: boot sector, GRUB's core in the gap, one partition.
const (
	sectorBytes = 512
	partOffset  = 2048 * sectorBytes
	diskMiB     = 79
	partSize    = diskMiB<<20 - partOffset
)

// grubConfig boots at once. The kernel says little: each line takes time on a
// serial port, and mitigations on an emulated processor more.
const grubConfig = `serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set root=(hd0,msdos1)
linux /boot/vmlinuz console=ttyS0,115200n8 loglevel=4 panic=5 nokaslr mitigations=off cryptomgr.notests net.ifnames=0 nvme_core.io_timeout=4294967295
initrd /boot/initrd.img
boot
`

// grubModules are what GRUB needs to find its configuration and the kernel.
var grubModules = []string{"biosdisk", "part_msdos", "ext2", "linux", "normal", "serial", "terminal", "configfile", "boot", "minicmd"}

// grub makes GRUB's two parts.
func (b *build) grub(ctx context.Context, base string) error {
	lib := filepath.Join(b.root(), "usr/lib/grub/i386-pc")
	args := append([]string{"-O", "i386-pc", "-d", lib, "-o", filepath.Join(base, "core.img"), "-p", "(hd0,msdos1)/boot/grub"}, grubModules...)
	if _, err := command.Run(ctx, "grub-mkimage", args...); err != nil {
		return err
	}
	boot, err := os.ReadFile(filepath.Join(lib, "boot.img"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(base, "boot.img"), boot, 0o644)
}

// makeDisk writes the bootable disk with the files below boot.
func (b *build) makeDisk(ctx context.Context, boot string) error {
	if err := os.WriteFile(filepath.Join(boot, "boot/grub/grub.cfg"), []byte(grubConfig), 0o644); err != nil {
		return err
	}
	f, err := os.Create(b.disk())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(diskMiB << 20); err != nil {
		return err
	}
	part := filepath.Join(b.work, "part.raw")
	// A fixed identity and time: the same parts give the same image.
	if _, err := command.Run(ctx, "mke2fs", "-q", "-t", "ext2", "-b", "4096", "-m", "0", "-I", "256", "-O", "^resize_inode,^dir_index",
		"-L", "rehost", "-U", "b1c5a2d4-6f0e-4e0b-9c55-7c6e2d1f3a90", "-d", boot, part, strconv.Itoa(partSize/1024)+"k"); err != nil {
		return err
	}
	if err := embed(f, part, filepath.Join(b.base, "boot.img"), filepath.Join(b.base, "core.img")); err != nil {
		return fmt.Errorf("write the disk: %w", err)
	}
	return f.Sync()
}

// embed writes the partition, its table and GRUB's two parts.
func embed(f *os.File, part, bootFile, coreFile string) error {
	data, err := os.ReadFile(part)
	if err != nil {
		return err
	}
	if err := writeSparse(f, data, partOffset); err != nil {
		return err
	}
	boot, err := os.ReadFile(bootFile)
	if err != nil {
		return err
	}
	core, err := os.ReadFile(coreFile)
	if err != nil {
		return err
	}
	if len(boot) != sectorBytes || sectorBytes+len(core) > partOffset {
		return fmt.Errorf("GRUB does not fit before the partition: %d and %d bytes", len(boot), len(core))
	}
	if _, err := f.WriteAt(boot[:440], 0); err != nil {
		return err
	}
	if _, err := f.WriteAt(partitionTable(), 440); err != nil {
		return err
	}
	_, err = f.WriteAt(core, sectorBytes)
	return err
}

// partitionTable returns the bytes 440 to 511 of the boot sector.
func partitionTable() []byte {
	b := make([]byte, sectorBytes-440)
	copy(b, "rhst") // the disk's signature
	e := b[6:]
	e[0], e[4] = 0x80, 0x83
	copy(e[1:4], []byte{0xfe, 0xff, 0xff})
	copy(e[5:8], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], partOffset/sectorBytes)
	binary.LittleEndian.PutUint32(e[12:], partSize/sectorBytes)
	copy(b[len(b)-2:], []byte{0x55, 0xaa})
	return b
}

// writeSparse leaves holes where data is zero.
func writeSparse(f *os.File, data []byte, offset int64) error {
	const block = 64 << 10
	zero := make([]byte, block)
	for i := 0; i < len(data); i += block {
		part := data[i:min(i+block, len(data))]
		if bytes.Equal(part, zero[:len(part)]) {
			continue
		}
		if _, err := f.WriteAt(part, offset+int64(i)); err != nil {
			return err
		}
	}
	return nil
}
