package appliance

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"rehost/internal/command"
)

// The disk: boot sector, GRUB's core, its configuration, and one partition that holds the kernel,
// an archive of further tools, and the initramfs, as they are. There is no filesystem: GRUB would read it block by block through
// the BIOS, which took an emulated processor longer than all the rest of the boot.
const (
	sectorBytes  = 512
	configSector = 2040
	partSector   = 2048
	// maxBytes is what a conversion instance may have to download and to keep.
	maxBytes = 80_000_000
)

// grubConfig boots at once. The kernel says little: each line takes time on a
// serial port, and mitigations on an emulated processor more.
const grubConfig = `serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
linux (hd0)%d+%d console=ttyS0,115200n8 loglevel=4 panic=5 nokaslr mitigations=off no_timer_check random.trust_cpu=on cryptomgr.notests net.ifnames=0 nvme_core.io_timeout=4294967295
initrd (hd0)%d+%d
boot
`

// grubModules are what GRUB needs to find its configuration and the kernel.
var grubModules = []string{"biosdisk", "linux", "normal", "serial", "terminal", "configfile", "boot", "minicmd"}

// grubLoad is in GRUB's core: where the rest of the configuration is.
var grubLoad = fmt.Sprintf("configfile (hd0)%d+%d\n", configSector, partSector-configSector)

// grub makes GRUB's two parts.
func (b *build) grub(ctx context.Context, base string) error {
	lib := filepath.Join(b.root(), "usr/lib/grub/i386-pc")
	load := filepath.Join(b.work, "load.cfg")
	if err := os.WriteFile(load, []byte(grubLoad), 0o644); err != nil {
		return err
	}
	args := append([]string{"-O", "i386-pc", "-d", lib, "-o", filepath.Join(base, "core.img"), "-c", load, "-p", "(hd0)/"}, grubModules...)
	if _, err := command.Run(ctx, "grub-mkimage", args...); err != nil {
		return err
	}
	boot, err := os.ReadFile(filepath.Join(lib, "boot.img"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(base, "boot.img"), boot, 0o644)
}

// toolsAt is the sector where the tools begin.
func toolsAt(kernel []byte) int { return partSector + sectors(kernel) }

// makeDisk writes the bootable disk.
func (b *build) makeDisk(kernel, tools, initramfs []byte) error {
	boot, err := os.ReadFile(filepath.Join(b.base, "boot.img"))
	if err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(b.base, "core.img"))
	if err != nil {
		return err
	}
	kernelAt, initramfsAt := partSector, toolsAt(kernel)+sectors(tools)
	config := fmt.Appendf(nil, grubConfig, kernelAt, sectors(kernel), initramfsAt, sectors(initramfs))
	room := (partSector - configSector) * sectorBytes
	if len(boot) != sectorBytes || sectorBytes+len(core) > configSector*sectorBytes || len(config) > room {
		return fmt.Errorf("GRUB does not fit before the partition: %d, %d and %d bytes", len(boot), len(core), len(config))
	}
	const mib = 1 << 20
	size := ((initramfsAt+sectors(initramfs))*sectorBytes + mib - 1) / mib * mib
	if size > maxBytes {
		return fmt.Errorf("kernel, tools and initramfs do not fit: %d, %d and %d bytes", len(kernel), len(tools), len(initramfs))
	}
	config = append(config, bytes.Repeat([]byte("\n"), room-len(config))...)
	f, err := os.Create(b.disk())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	for _, part := range []struct {
		data []byte
		at   int
	}{
		{boot[:440], 0},
		{partitionTable(size), 440},
		{core, sectorBytes},
		{config, configSector * sectorBytes},
		{kernel, kernelAt * sectorBytes},
		{tools, toolsAt(kernel) * sectorBytes},
		{initramfs, initramfsAt * sectorBytes},
	} {
		if _, err := f.WriteAt(part.data, int64(part.at)); err != nil {
			return fmt.Errorf("write the disk: %w", err)
		}
	}
	return f.Sync()
}

func sectors(data []byte) int { return (len(data) + sectorBytes - 1) / sectorBytes }

// partitionTable returns the bytes 440 to 511 of the boot sector of a disk with so many bytes.
func partitionTable(size int) []byte {
	b := make([]byte, sectorBytes-440)
	copy(b, "rhst") // the disk's signature
	e := b[6:]
	e[0], e[4] = 0x80, 0xda // data without a filesystem
	copy(e[1:4], []byte{0xfe, 0xff, 0xff})
	copy(e[5:8], []byte{0xfe, 0xff, 0xff})
	binary.LittleEndian.PutUint32(e[8:], partSector)
	binary.LittleEndian.PutUint32(e[12:], uint32(size/sectorBytes-partSector))
	copy(b[len(b)-2:], []byte{0x55, 0xaa})
	return b
}
