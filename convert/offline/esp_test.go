package offline_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"rehost/convert/offline"
	"rehost/internal/command"
	"rehost/protocol"
)

// TestTheFallbackLoaderIsWrittenToVFAT converts a disk whose EFI system partition has a loader only where the old firmware remembered
// it, and reads the partition with somebody else's tools.
func TestTheFallbackLoaderIsWrittenToVFAT(t *testing.T) {
	long(t)
	const (
		mib     = 1 << 20
		espSize = 64 * mib
		serial  = "1ED9-E123"
	)
	dir := t.TempDir()
	esp, loader := filepath.Join(dir, "esp.raw"), filepath.Join(dir, "grubx64.efi")
	content := append([]byte("MZ\x00\x01"), bytes.Repeat([]byte("loader "), 20_000)...)
	must := func(name string, args ...string) {
		t.Helper()
		if _, err := command.Run(t.Context(), name, args...); err != nil {
			t.Fatal(err)
		}
	}
	for path, data := range map[string][]byte{esp: nil, loader: content} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(esp, espSize); err != nil {
		t.Fatal(err)
	}
	must("mkfs.vfat", "-i", "1ED9E123", esp)
	must("mmd", "-i", esp, "::EFI", "::EFI/debian")
	must("mcopy", "-i", esp, loader, "::EFI/debian/grubx64.efi")
	root := filesystem(t, "/dev/vda2 / ext4 defaults 0 1\nUUID="+serial+" /boot/efi vfat umask=0077 0 1\n")
	disk := empty(t, "disk.raw", mib+espSize+32*mib+mib)
	table := "label: gpt\nstart=1MiB, size=64MiB, type=uefi\nstart=65MiB, size=32MiB, type=linux\n"
	if _, err := command.RunIn(t.Context(), "", []byte(table), "sfdisk", "--quiet", "--no-reread", disk); err != nil {
		t.Fatal(err)
	}
	must("dd", "if="+esp, "of="+disk, "bs=1M", "seek=1", "conv=notrunc", "status=none")
	must("dd", "if="+root, "of="+disk, "bs=1M", "seek=65", "conv=notrunc", "status=none")

	job := offline.Job{Appliance: buildAppliance(t), Disks: []string{disk}, Action: protocol.ActionApply}
	if r := run(t, job); !r.OK || len(r.Changes) == 0 {
		t.Fatalf("got %+v, problem %+v", r, r.Problem)
	}
	at := disk + "@@1M"
	copied, err := command.Run(t.Context(), "mtype", "-i", at, "::EFI/BOOT/BOOTX64.EFI")
	if err != nil || !bytes.Equal(copied, content) {
		t.Errorf("the fallback loader has %d bytes, want the %d of the loader: %v", len(copied), len(content), err)
	}
	must("dd", "if="+disk, "of="+esp, "bs=1M", "skip=1", "count=64", "status=none")
	must("fsck.fat", "-n", esp)

	job.Action = protocol.ActionUndo
	if r := run(t, job); !r.OK {
		t.Fatalf("undo: %+v", r.Problem)
	}
	if left, err := command.Run(t.Context(), "mtype", "-i", at, "::EFI/BOOT/BOOTX64.EFI"); err == nil {
		t.Errorf("after the undo there is a fallback loader of %d bytes", len(left))
	}
	if kept, err := command.Run(t.Context(), "mtype", "-i", at, "::EFI/debian/grubx64.efi"); err != nil || !bytes.Equal(kept, content) {
		t.Errorf("after the undo the loader has %d bytes, %v", len(kept), err)
	}
}
