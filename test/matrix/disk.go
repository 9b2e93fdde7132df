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
	"btrfs-progs", "busybox", "dbus", "dracut-core", "e2fsprogs", "grub-efi-amd64-bin", "grub-pc-bin", "grub2-common", "ifupdown", "initramfs-tools", "iproute2",
	"isc-dhcp-client", "kmod", "linux-image-amd64", "lvm2", "mdadm", "netbase", "netplan.io", "network-manager", "open-vm-tools", "openssh-server",
	"procps", "systemd-resolved", "systemd-sysv", "udev", "xfsprogs", "xz-utils", "zstd",
}

const (
	sector    = 512
	mib       = 1 << 20
	rootBytes = 2048 * mib
	varBytes  = 640 * mib
	bootBytes = 256 * mib
	espBytes  = 64 * mib
	// stackBytes is what LVM and RAID keep for themselves before and behind the data.
	stackBytes = 16 * mib
	firstPart  = mib
	biosBoot   = 40 // the sector where GRUB's core is on a GPT disk
	array      = "1badcafe:0badf00d:5eed5eed:00c0ffee"
)

// partition is a part of each of a server's disks.
type partition struct {
	at, size int64  // bytes
	kind     string // of sfdisk
	content  string // a file of the work folder, or empty
}

// tree returns the archive of all packages.
func tree(ctx context.Context, progress func(string)) (string, error) {
	return image.Tree(ctx, image.Options{Progress: progress}, "matrix", packages)
}

// makeDisks makes the disks of a server in the folder dir, with the key in root's authorized_keys.
func makeDisks(ctx context.Context, c combination, archive, dir, key string) ([]string, error) {
	work := filepath.Join(dir, "work")
	if err := c.write(filepath.Join(work, "files"), key); err != nil {
		return nil, err
	}
	script := filepath.Join(work, "layout.sh")
	err := os.WriteFile(script, layout, 0o600)
	for name, size := range map[string]int64{"root.raw": rootBytes, "var.raw": varBytes, "boot.raw": bootBytes} {
		path := filepath.Join(work, name)
		err = errors.Join(err, os.WriteFile(path, nil, 0o600), os.Truncate(path, size))
	}
	if err != nil {
		return nil, err
	}
	_, err = command.Run(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--",
		"env", "FS="+c.fs, "TABLE="+c.table, "STACK="+c.stack, "MAKER="+c.maker, "DEVICE="+c.device, "ARRAY="+array, "UNITS="+c.units, "TREE="+archive,
		"sh", script, work)
	if err != nil {
		return nil, fmt.Errorf("lay out %s: %w", c.name, err)
	}
	disks := []string{filepath.Join(dir, "disk.raw")}
	if c.stack == "raid1" {
		disks = append(disks, filepath.Join(dir, "disk2.raw"))
	}
	for _, disk := range disks {
		if err := c.assemble(ctx, work, disk); err != nil {
			return nil, fmt.Errorf("assemble a disk of %s: %w", c.name, err)
		}
	}
	if err := c.fill(ctx, work, disks); err != nil {
		return nil, fmt.Errorf("fill the volumes of %s: %w", c.name, err)
	}
	return disks, os.RemoveAll(work)
}

// write writes the server's own files.
func (c combination) write(dir, key string) error {
	files := map[string]string{
		"root/.ssh/authorized_keys": key,
		"etc/hostname":              "matrix\n",
		"etc/hosts":                 "127.0.0.1\tlocalhost\n127.0.1.1\tmatrix\n",
		"etc/fstab":                 c.rootLine() + c.fstab,
		"etc/default/grub": "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_DISTRIBUTOR=Debian\nGRUB_DISABLE_OS_PROBER=true\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n" +
			"GRUB_CMDLINE_LINUX=\"console=ttyS0,115200" + c.cmdline() + "\"\n",
	}
	if c.stack == "raid1" {
		files["etc/mdadm/mdadm.conf"] = "HOMEHOST <system>\nMAILADDR root\nARRAY /dev/md/root metadata=1.2 UUID=" + array + " name=matrix:root\n"
	}
	if c.maker == "dracut" {
		modules := map[string]string{"lvm": "add_dracutmodules+=\" lvm \"\n"}[c.stack]
		files["etc/dracut.conf.d/matrix.conf"] = "hostonly=\"yes\"\nhostonly_cmdline=\"no\"\ncompress=\"" + c.pack + "\"\n" + modules +
			"drivers=\" virtio_pci virtio_blk virtio_net dm_mod " + c.fs + " \"\n" // what it would find on the server
	} else {
		files["etc/initramfs-tools/conf.d/matrix"] = "COMPRESS=" + c.pack + "\nMODULES=" + map[bool]string{true: "most", false: "list"}[c.whole] + "\n"
		files["etc/initramfs-tools/modules"] = "virtio_pci\nvirtio_blk\nvirtio_net\n" + c.fs + "\n"
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

// cmdline is what the kernel is told besides its console.
func (c combination) cmdline() string {
	if c.maker == "dracut" && c.stack == "lvm" {
		return " rd.lvm.lv=ledger/root"
	}
	return ""
}

func (c combination) rootLine() string {
	device, options, rest := "UUID=ROOT-UUID", "defaults", "" // the layout puts the UUID in
	switch {
	case c.stack == "lvm":
		device, rest = "/dev/mapper/ledger-root", "UUID=BOOT-UUID /boot ext4 defaults 0 2\n/dev/mapper/ledger-var /var "+c.fs+" defaults 0 2\n"
	case strings.Contains(c.fstab, "/dev/sd"):
		device = "/dev/sda1"
	case c.fs == "btrfs":
		options = "subvol=@rootfs"
	}
	return device + " / " + c.fs + " " + options + " 0 1\n" + rest
}

// parts returns the partitions of each disk, those of GRUB's core on a GPT excepted.
func (c combination) parts() []partition {
	var parts []partition
	at := int64(firstPart)
	add := func(size int64, kind, content string) {
		parts = append(parts, partition{at: at, size: size, kind: kind, content: content})
		at += size
	}
	linux := map[bool]string{true: "83", false: "linux"}[c.table == "mbr"]
	if c.table == "uefi" {
		add(espBytes, "uefi", "esp.raw")
	}
	switch c.stack {
	case "lvm":
		add(bootBytes, linux, "boot.raw")
		add(rootBytes+varBytes+stackBytes, map[bool]string{true: "8e", false: "lvm"}[c.table == "mbr"], "")
	case "raid1":
		add(rootBytes+stackBytes, map[bool]string{true: "fd", false: "raid"}[c.table == "mbr"], "")
	default:
		add(rootBytes, linux, "root.raw")
	}
	return parts
}

// assemble writes the partition table, the boot loader and the plain filesystems to disk.
func (c combination) assemble(ctx context.Context, work, disk string) error {
	parts := c.parts()
	table := "label: gpt\nfirst-lba: 40\n"
	switch c.table {
	case "mbr":
		table = "label: dos\n"
	case "gpt":
		table += fmt.Sprintf("start=%d, size=%d, type=21686148-6449-6E6F-744E-656564454649\n", biosBoot, firstPart/sector-biosBoot)
	}
	for i, p := range parts {
		active := map[bool]string{true: ", bootable", false: ""}[c.table == "mbr" && i == 0]
		table += fmt.Sprintf("start=%d, size=%d, type=%s%s\n", p.at/sector, p.size/sector, p.kind, active)
	}
	last := parts[len(parts)-1]
	if err := errors.Join(os.WriteFile(disk, nil, 0o600), os.Truncate(disk, last.at+last.size+mib)); err != nil {
		return err
	}
	if _, err := command.RunIn(ctx, "", []byte(table), "sfdisk", "--quiet", "--no-reread", disk); err != nil {
		return err
	}
	if c.table == "uefi" {
		if err := makeESP(ctx, work); err != nil {
			return err
		}
	} else if err := embed(c, work, disk); err != nil {
		return err
	}
	for _, p := range parts {
		if p.content != "" {
			if err := copyInto(ctx, filepath.Join(work, p.content), disk, p.at); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeESP makes the EFI system partition with the loader where Debian puts it, and none where firmware looks by itself.
func makeESP(ctx context.Context, work string) error {
	file := filepath.Join(work, "esp.raw")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, espBytes)); err != nil {
		return err
	}
	for _, line := range [][]string{
		{"mkfs.vfat", "-i", strings.ReplaceAll(espSerial, "-", ""), file},
		{"mmd", "-i", file, "::EFI", "::EFI/debian"},
		{"mcopy", "-i", file, filepath.Join(work, "grubx64.efi"), "::EFI/debian/grubx64.efi"},
	} {
		if _, err := command.Run(ctx, line[0], line[1:]...); err != nil {
			return err
		}
	}
	return nil
}

func copyInto(ctx context.Context, from, disk string, at int64) error {
	_, err := command.Run(ctx, "dd", "if="+from, "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", at>>20), "conv=notrunc,sparse")
	return err
}

// embed puts GRUB in the boot sector and its core before the first partition, as grub-bios-setup does: each names the
// sector of what follows.
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
