package storage

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/protocol"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
}

// files are what makes a folder a root.
func files(fstab string) map[string]string {
	return map[string]string{"etc/fstab": fstab, "etc/os-release": "PRETTY_NAME=Test\n", "usr/share/x": "x", "boot/y": "y"}
}

func fill(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

func blank(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
	return path
}

func ext4(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, path := t.TempDir(), blank(t, 32<<20)
	fill(t, dir, files)
	if _, err := command.Run(t.Context(), "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// made makes a filesystem of the given program, mounts it for a moment and lets fill work in it.
func made(t *testing.T, kind string, size int64, program []string, fill func(dir string)) string {
	t.Helper()
	path := blank(t, size)
	if _, err := command.Run(t.Context(), program[0], append(program[1:], path)...); err != nil {
		t.Fatal(err)
	}
	f, err := loop(path, 0, size)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	dir := t.TempDir()
	if err := unix.Mount(f.Name(), dir, kind, 0, ""); err != nil {
		t.Fatal(err)
	}
	fill(dir)
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	return path
}

// mountImages mounts, hands the guest over, and takes all down.
func mountImages(t *testing.T, images []string, look func(g *Guest)) (*Guest, error) {
	t.Helper()
	var devices []Device
	for i, p := range images {
		devices = append(devices, Device{Volume: filepath.Base(p), Boot: i == 0, Path: p})
	}
	g, err := Mount(t.Context(), devices, Options{Progress: func(s string) { t.Log(s) }})
	if err == nil {
		if look != nil {
			look(g)
		}
		err = g.Close()
	}
	for _, f := range g.Findings {
		t.Logf("%s %s: %s", f.Severity, f.Code, f.Message)
	}
	return g, err
}

// refused wants one critical finding of the code.
func refused(t *testing.T, code protocol.FindingCode, images ...string) {
	t.Helper()
	g, err := mountImages(t, images, nil)
	if err == nil || !slices.ContainsFunc(g.Findings, func(f protocol.Finding) bool {
		return f.Code == code && f.Severity == protocol.SeverityCritical && f.Hint != ""
	}) {
		t.Errorf("got %v with %+v, want %s", err, g.Findings, code)
	}
	if p := AsProblem(err); p.Hint == "" || p.Code != protocol.ProblemConversion {
		t.Errorf("got problem %+v", p)
	}
}

func TestWhatIsRefused(t *testing.T) {
	needRoot(t)
	root := files("")
	t.Run("no root", func(t *testing.T) { refused(t, protocol.FindingNoRoot, ext4(t, map[string]string{"data": "x"})) })
	t.Run("nothing", func(t *testing.T) { refused(t, protocol.FindingNoRoot, blank(t, 1<<20)) })
	t.Run("two roots", func(t *testing.T) { refused(t, protocol.FindingSeveralRoots, ext4(t, root), ext4(t, root)) })
	t.Run("Windows", func(t *testing.T) {
		disk := blank(t, 1<<20)
		write(t, disk, 0, []byte("\xeb\x52\x90NTFS    "))
		refused(t, protocol.FindingWindows, disk)
	})
	t.Run("truncated", func(t *testing.T) {
		disk := ext4(t, root)
		if err := os.Truncate(disk, 20<<20); err != nil {
			t.Fatal(err)
		}
		refused(t, protocol.FindingTruncated, disk)
	})
	t.Run("encrypted", func(t *testing.T) {
		disk := blank(t, 1<<20)
		write(t, disk, 0, []byte("LUKS\xba\xbe\x00\x02"))
		write(t, disk, 168, []byte("ac18a43c-bffe-4691-bc4f-9b900923d828"))
		refused(t, protocol.FindingEncrypted, disk)
	})
	t.Run("RAID5", func(t *testing.T) {
		disk := blank(t, 1<<20)
		write(t, disk, 4096, []byte{0xfc, 0x4e, 0x2b, 0xa9, 1, 0, 0, 0})
		write(t, disk, 4096+72, []byte{5})
		write(t, disk, 4096+144, []byte{8})
		refused(t, protocol.FindingRAID, disk)
	})
	t.Run("boot on another disk", func(t *testing.T) {
		refused(t, protocol.FindingFstabMissing, ext4(t, files("UUID=ac18a43c-bffe-4691-bc4f-9b900923d828 /boot ext4 defaults 0 2\n")))
	})
	t.Run("beyond repair", func(t *testing.T) {
		disk := ext4(t, root)
		f, err := os.OpenFile(disk, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		// The first group's inodes, the root folder among them, become noise.
		noise := slices.Repeat([]byte{0x5a}, 512<<10)
		if _, err := f.WriteAt(noise, 16<<10); err != nil {
			t.Fatal(err)
		}
		refused(t, protocol.FindingDamaged, disk)
	})
}

func write(t *testing.T, path string, at int64, data []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteAt(data, at); err != nil {
		t.Fatal(err)
	}
}

// TestRepairIsReported breaks what e2fsck mends by itself: a count of free blocks.
func TestRepairIsReported(t *testing.T) {
	needRoot(t)
	disk := ext4(t, files(""))
	for _, request := range []string{"set_super_value free_blocks_count 17", "set_super_value state 0"} {
		if _, err := command.Run(t.Context(), "debugfs", "-w", "-R", request, disk); err != nil {
			t.Fatal(err)
		}
	}
	g, err := mountImages(t, []string{disk}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Findings) != 1 || g.Findings[0].Code != protocol.FindingRepaired {
		t.Errorf("got %+v", g.Findings)
	}
	if out, err := exec.Command("e2fsck", "-fn", disk).CombinedOutput(); err != nil {
		t.Errorf("it is still broken: %v: %s", err, out)
	}
}

// TestJournalIsNoDamage has a filesystem as it is on the clone of a server that was running.
func TestJournalIsNoDamage(t *testing.T) {
	needRoot(t)
	disk := ext4(t, files(""))
	f, err := loop(disk, 0, 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	dir := t.TempDir()
	if err := unix.Mount(f.Name(), dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	fill(t, dir, map[string]string{"new": "x"})
	unix.Sync()
	running := blank(t, 32<<20)
	if _, err := command.Run(t.Context(), "cp", "--sparse=always", disk, running); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	g, err := mountImages(t, []string{running}, nil)
	if err != nil || len(g.Findings) != 0 {
		t.Errorf("got %v, %+v", err, g.Findings)
	}
}

func TestRootsOnBtrfs(t *testing.T) {
	needRoot(t)
	const uuid = "ac18a43c-bffe-4691-bc4f-9b900923d828"
	mkfs := []string{"mkfs.btrfs", "-q", "-U", uuid}
	sub := func(dir string, names ...string) {
		for _, n := range names {
			if _, err := command.Run(t.Context(), "btrfs", "subvolume", "create", filepath.Join(dir, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct {
		fill      func(dir string)
		subvolume string
		boot      bool
	}{
		"whole": {func(dir string) { fill(t, dir, files("UUID="+uuid+" / btrfs defaults 0 0\n")) }, "", true},
		"@rootfs": {func(dir string) {
			sub(dir, "@rootfs")
			fill(t, filepath.Join(dir, "@rootfs"), files("UUID="+uuid+" / btrfs subvol=@rootfs 0 0\n"))
		}, "@rootfs", true},
		"@ with a copy and boot elsewhere": {func(dir string) {
			sub(dir, "@", "@old", "@boot")
			table := "UUID=" + uuid + " / btrfs subvol=/@ 0 0\nUUID=" + uuid + " /boot btrfs subvol=@boot 0 0\n"
			fill(t, filepath.Join(dir, "@"), files(table))
			fill(t, filepath.Join(dir, "@old"), files(table))
			fill(t, filepath.Join(dir, "@boot"), map[string]string{"z": "z"})
		}, "@", false},
		"default": {func(dir string) {
			sub(dir, "@", "@/snapshot")
			fill(t, filepath.Join(dir, "@/snapshot"), files("UUID="+uuid+" / btrfs defaults 0 0\n"))
			if _, err := command.Run(t.Context(), "btrfs", "subvolume", "set-default", filepath.Join(dir, "@/snapshot")); err != nil {
				t.Fatal(err)
			}
		}, "@/snapshot", true},
	} {
		t.Run(name, func(t *testing.T) {
			disk := made(t, "btrfs", 128<<20, mkfs, tt.fill)
			_, err := mountImages(t, []string{disk}, func(g *Guest) {
				s := g.Disks[0].Filesystems[0]
				if s.Subvolume() != tt.subvolume || s.Mount != "/" || s.UUID != uuid {
					t.Errorf("got %+v, want subvolume %q", s, tt.subvolume)
				}
				if !exists(g.Root, "/etc/fstab") || exists(g.Root, "/boot/y") != tt.boot || exists(g.Root, "/boot/z") == tt.boot {
					t.Error("the wrong things are mounted")
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// uuid reads that of a filesystem.
func uuid(t *testing.T, image string) string {
	t.Helper()
	out, err := command.Run(t.Context(), "blkid", "-p", "-s", "UUID", "-o", "value", image)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func TestSeparateFilesystems(t *testing.T) {
	needRoot(t)
	boot := ext4(t, map[string]string{"z": "z"})
	table := "UUID=" + uuid(t, boot) + " /boot ext4 defaults 0 2\n/dev/vdq /srv ext4 defaults 0 2\n"
	root := made(t, "xfs", 320<<20, []string{"mkfs.xfs", "-q"}, func(dir string) { fill(t, dir, files(table)) })
	_, err := mountImages(t, []string{boot, root}, func(g *Guest) {
		if !exists(g.Root, "/boot/z") || g.Disks[0].Filesystems[0].Mount != "/boot" || g.Disks[1].Filesystems[0].Mount != "/" {
			t.Errorf("got %+v", g.Disks)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMissingMountPointIsMadeForTheWhile(t *testing.T) {
	needRoot(t)
	efi := ext4(t, map[string]string{"loader": "z"})
	table := "UUID=" + uuid(t, efi) + " /boot/efi ext4 defaults 0 2\n"
	root := ext4(t, files(table))
	images := []string{root, efi}
	_, err := mountImages(t, images, func(g *Guest) {
		if !exists(g.Root, "/boot/efi/loader") {
			t.Error("/boot/efi is not mounted")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.Run(t.Context(), "debugfs", "-R", "ls -p /boot", root)
	if err != nil || strings.Contains(string(out), "/efi/") || !strings.Contains(string(out), "/y/") {
		t.Errorf("/boot of the guest is %s, %v", out, err)
	}
}
