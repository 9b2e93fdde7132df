package matrix

import (
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"rehost/internal/command"
	"rehost/test/image"
)

//go:embed layout.sh
var layout []byte

// packages are on every server: what a combination does not use is installed and not enabled, open-vm-tools excepted,
// which finds no VMware.
var packages = []string{
	"btrfs-progs", "busybox", "dbus", "e2fsprogs", "grub-efi-amd64-bin", "grub-pc-bin", "grub2-common", "ifupdown", "initramfs-tools", "iproute2",
	"isc-dhcp-client", "kmod", "linux-image-amd64", "netbase", "netplan.io", "network-manager", "open-vm-tools", "openssh-server",
	"procps", "systemd-resolved", "systemd-sysv", "udev", "xfsprogs", "xz-utils", "zstd",
}

const (
	sector    = 512
	rootBytes = 2 << 30
	espBytes  = 64 << 20
	firstPart = 1 << 20
	biosBoot  = 40 // the sector where GRUB's core is on a GPT disk
)

// tree returns the archive of all packages.
func tree(ctx context.Context, progress func(string)) (string, error) {
	return image.Tree(ctx, image.Options{Progress: progress}, "matrix", packages)
}

// makeDisk makes the disk of a server in the folder dir, with the key in root's authorized_keys.
func makeDisk(ctx context.Context, c combination, archive, dir, key string) (string, error) {
	work := filepath.Join(dir, "work")
	if err := c.write(filepath.Join(work, "files"), key); err != nil {
		return "", err
	}
	root, script := filepath.Join(work, "root.raw"), filepath.Join(work, "layout.sh")
	err := errors.Join(os.WriteFile(script, layout, 0o600), os.WriteFile(root, nil, 0o600), os.Truncate(root, rootBytes))
	if err != nil {
		return "", err
	}
	_, err = command.Run(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--",
		"env", "FS="+c.fs, "TABLE="+c.table, "UNITS="+c.units, "TREE="+archive, "sh", script, work)
	if err != nil {
		return "", fmt.Errorf("lay out %s: %w", c.name, err)
	}
	disk := filepath.Join(dir, "disk.raw")
	if err := assemble(ctx, c, work, disk); err != nil {
		return "", fmt.Errorf("assemble the disk of %s: %w", c.name, err)
	}
	return disk, os.RemoveAll(work)
}

// write writes the server's own files.
func (c combination) write(dir, key string) error {
	files := map[string]string{
		"root/.ssh/authorized_keys": key,
		"etc/hostname":              "matrix\n",
		"etc/hosts":                 "127.0.0.1\tlocalhost\n127.0.1.1\tmatrix\n",
		"etc/fstab":                 c.rootLine() + c.fstab,
		"etc/default/grub": "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\nGRUB_DISABLE_OS_PROBER=true\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n" +
			"GRUB_CMDLINE_LINUX=\"console=ttyS0,115200\"\n",
		"etc/initramfs-tools/conf.d/matrix": "COMPRESS=" + c.pack + "\nMODULES=" + map[bool]string{true: "most", false: "list"}[c.whole] + "\n",
		"etc/initramfs-tools/modules":       "virtio_pci\nvirtio_blk\nvirtio_net\n" + c.fs + "\n",
	}
	maps.Copy(files, c.files)
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func (c combination) rootLine() string {
	options := "defaults"
	if c.fs == "btrfs" {
		options = "subvol=@rootfs"
	}
	device := "UUID=ROOT-UUID" // which the layout replaces
	if strings.Contains(c.fstab, "/dev/vd") {
		device = "/dev/vda1"
	}
	return device + " / " + c.fs + " " + options + " 0 1\n"
}

// assemble writes the partition table, the boot loader and the root to disk.
func assemble(ctx context.Context, c combination, work, disk string) error {
	table, at := "label: dos\nstart=2048, type=83, bootable\n", c.rootAt()
	switch c.table {
	case "gpt":
		table = fmt.Sprintf("label: gpt\nfirst-lba: 40\nstart=%d, size=%d, type=21686148-6449-6E6F-744E-656564454649\nstart=2048, type=linux\n", biosBoot, 2048-biosBoot)
	case "uefi":
		table = fmt.Sprintf("label: gpt\nstart=2048, size=%d, type=uefi\nstart=%d, type=linux\n", espBytes/sector, at/sector)
	}
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, at+rootBytes+firstPart)); err != nil {
		return err
	}
	if _, err := command.RunIn(ctx, "", []byte(table), "sfdisk", "--quiet", "--no-reread", disk); err != nil {
		return err
	}
	if c.table == "uefi" {
		if err := makeESP(ctx, work, disk); err != nil {
			return err
		}
	} else if err := embed(c, work, disk); err != nil {
		return err
	}
	return copyInto(ctx, filepath.Join(work, "root.raw"), disk, at)
}

// makeESP makes the EFI system partition with the loader where Debian puts it, and none where firmware looks by itself.
func makeESP(ctx context.Context, work, disk string) error {
	esp := filepath.Join(work, "esp.raw")
	if err := errors.Join(os.WriteFile(esp, nil, 0o600), os.Truncate(esp, espBytes)); err != nil {
		return err
	}
	for _, line := range [][]string{
		{"mkfs.vfat", "-i", strings.ReplaceAll(espSerial, "-", ""), esp},
		{"mmd", "-i", esp, "::EFI", "::EFI/debian"},
		{"mcopy", "-i", esp, filepath.Join(work, "grubx64.efi"), "::EFI/debian/grubx64.efi"},
	} {
		if _, err := command.Run(ctx, line[0], line[1:]...); err != nil {
			return err
		}
	}
	return copyInto(ctx, esp, disk, firstPart)
}

func copyInto(ctx context.Context, from, disk string, at int64) error {
	_, err := command.Run(ctx, "dd", "if="+from, "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", at>>20), "conv=notrunc,sparse")
	return err
}

// embed puts GRUB in the boot sector and its core before the root, as grub-bios-setup does: each names the sector
// of what follows.
func embed(c combination, work, disk string) error {
	boot, err := os.ReadFile(filepath.Join(work, "boot.img"))
	if err != nil {
		return err
	}
	core, err := os.ReadFile(filepath.Join(work, "core.img"))
	if err != nil {
		return err
	}
	at := 1
	if c.table == "gpt" {
		at = biosBoot
	}
	if len(boot) != sector || at*sector+len(core) > firstPart {
		return fmt.Errorf("GRUB does not fit: %d and %d bytes", len(boot), len(core))
	}
	const (
		coreField = 0x5c        // in boot.img
		restField = sector - 12 // in the core's first sector: its list of blocks
	)
	binary.LittleEndian.PutUint64(boot[coreField:], uint64(at))
	binary.LittleEndian.PutUint64(core[restField:], uint64(at+1))
	f, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err1 := f.WriteAt(boot[:440], 0) // what follows is the partition table
	_, err2 := f.WriteAt(core, int64(at)*sector)
	return errors.Join(err1, err2, f.Close())
}

// rootAt is the byte at which the root's partition begins.
func (c combination) rootAt() int64 {
	if c.table == "uefi" {
		return firstPart + espBytes
	}
	return firstPart
}
