package survey

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rehost/agent/internal/host"
	"rehost/convert"
	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/protocol"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == HelperArg {
		if err := HelperMain(os.Stdin, os.Stdout); err != nil {
			_, _ = os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// files are written below dir, by path.
func files(tb testing.TB, dir string, content map[string]string) {
	tb.Helper()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
}

func codes(findings []protocol.Finding) (out []string) {
	for _, f := range findings {
		out = append(out, string(f.Severity)+" "+string(f.Code))
	}
	return out
}

const kernel = "6.1.0-9-amd64"

// A server whose kernel has no ENA, whose network is of no known kind, and whose fstab has an NFS line. The helper is a process.
func TestWhatAConversionWouldSay(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, map[string]string{
		"etc/os-release":                             "PRETTY_NAME=\"Some Linux\"\n",
		"etc/fstab":                                  "nas:/export /nas nfs defaults 0 0\n",
		"boot/grub/grub.cfg":                         "menuentry 'Linux' {\n\tlinux /boot/vmlinuz-" + kernel + " root=/dev/sda1\n}\n",
		"lib/modules/" + kernel + "/modules.dep":     "kernel/e1000.ko:\n",
		"lib/modules/" + kernel + "/modules.builtin": "kernel/drivers/nvme/host/nvme.ko\n",
		"boot/vmlinuz-" + kernel:                     "x",
		"etc/secret":                                 "hunter2",
	})
	reply, err := Run(t.Context(), "", Request{Root: dir, Options: protocol.ConversionSettings{Network: "dhcp"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"critical root-filesystem", "critical kernel-lacks-driver", "critical network-unknown", "warning fstab-network"}
	if diff := cmp.Diff(want, codes(reply.Survey.Findings)); diff != "" {
		t.Error(diff)
	}
	if g := reply.Survey.Guest; g.OS != "Some Linux" || g.Kernel != kernel {
		t.Errorf("got %+v", g)
	}
	kept, err := Run(t.Context(), "", Request{Root: dir, Options: protocol.ConversionSettings{Network: "keep"}})
	if err != nil || slices.Contains(codes(kept.Survey.Findings), "critical network-unknown") {
		t.Errorf("with the network kept: %v, %v", codes(kept.Survey.Findings), err)
	}
}

// This machine itself: whatever its root is, a survey ends, is small, and writes nothing.
func TestSurveyOfThisHost(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, as the agent does")
	}
	before, err := os.Stat("/etc/fstab")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("a machine without an fstab: a container")
	}
	if err != nil {
		t.Fatal(err)
	}
	reply, err := Run(t.Context(), "", Request{Root: "/", Options: protocol.ConversionSettings{Network: "dhcp"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(reply.Survey)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %.2f s, %d bytes: %v", reply.Survey.Guest.OS, reply.Survey.Seconds, len(text), codes(reply.Survey.Findings))
	if len(text) > 64<<10 || reply.Survey.Guest.OS == "" {
		t.Errorf("got %s", text)
	}
	if after, err := os.Stat("/etc/fstab"); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("fstab was touched: %v", err)
	}
}

// The text of a hostile host does not make reports large.
func TestASurveyIsBounded(t *testing.T) {
	var all []protocol.Finding
	for range 100 {
		all = append(all, protocol.Finding{Severity: protocol.SeverityInfo, Message: strings.Repeat("x", 1<<20)})
	}
	all = append(all, protocol.Finding{Severity: protocol.SeverityCritical, Code: protocol.FindingSpace})
	kept, omitted := bound(all)
	if len(kept) != protocol.MaxSurveyFindings || omitted != 101-len(kept) || kept[0].Code != protocol.FindingSpace || len(kept[1].Message) != protocol.MaxSurveyText {
		t.Errorf("kept %d, omitted %d, first %q", len(kept), omitted, kept[0].Code)
	}
}

func TestTheHelperFailsWithReason(t *testing.T) {
	_, err := Run(t.Context(), "", Request{Root: "/does/not/exist"})
	if err == nil || !strings.Contains(err.Error(), "does/not/exist") {
		t.Errorf("got %v", err)
	}
	_, err = Run(t.Context(), "", Request{Root: "/", Disks: []string{"/dev/no-such-disk"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-disk") {
		t.Errorf("got %v", err)
	}
}

// sysfs is as the kernel shows a disk with a plain /boot, a thin pool with the root in it, and an encrypted volume on LVM.
func sysfs(tb testing.TB) string {
	tb.Helper()
	sys := tb.TempDir()
	files(tb, sys, map[string]string{
		"devices/sda/dev": "8:0\n", "devices/sda/sda1/dev": "8:1\n", "devices/sda/sda1/partition": "1\n",
		"devices/sda/sda2/dev": "8:2\n", "devices/sda/sda2/partition": "2\n",
		"devices/dm-0/dev": "253:0\n", "devices/dm-0/dm/uuid": "LVM-abc-tdata\n", "devices/dm-0/dm/name": "vg-pool_tdata\n", "devices/dm-0/slaves/sda2/x": "", "devices/dm-0/holders/dm-1/x": "",
		"devices/dm-1/dev": "253:1\n", "devices/dm-1/dm/uuid": "LVM-abc-tpool\n", "devices/dm-1/dm/name": "vg-pool-tpool\n", "devices/dm-1/slaves/dm-0/x": "", "devices/dm-1/holders/dm-2/x": "",
		"devices/dm-2/dev": "253:2\n", "devices/dm-2/dm/uuid": "LVM-Zq1sW2xE3cR4vT5bY6nU7mI8kO9lP0aQ4yt7HxQ2vb0abc1def2ghi3jklMnopqr\n", "devices/dm-2/dm/name": "my--vg-root\n", "devices/dm-2/slaves/dm-1/x": "",
		"devices/dm-3/dev": "253:3\n", "devices/dm-3/dm/uuid": "LVM-def\n", "devices/dm-3/dm/name": "my--vg-data\n", "devices/dm-3/slaves/sda2/x": "", "devices/dm-3/holders/dm-4/x": "",
		"devices/dm-4/dev": "253:4\n", "devices/dm-4/dm/uuid": "CRYPT-LUKS2-0123-secret\n", "devices/dm-4/dm/name": "secret\n", "devices/dm-4/slaves/dm-3/x": "",
		"devices/md0/dev": "9:0\n", "devices/md0/md/level": "raid1\n", "devices/md0/slaves/sdx1/x": "",
	})
	if err := os.MkdirAll(filepath.Join(sys, "class/block"), 0o755); err != nil {
		tb.Fatal(err)
	}
	for name, to := range map[string]string{"sda": "sda", "sda1": "sda/sda1", "sda2": "sda/sda2", "dm-0": "dm-0", "dm-1": "dm-1", "dm-2": "dm-2", "dm-3": "dm-3", "dm-4": "dm-4", "md0": "md0"} {
		if err := os.Symlink("../../devices/"+to, filepath.Join(sys, "class/block", name)); err != nil {
			tb.Fatal(err)
		}
	}
	return sys
}

func TestTheStackOfALiveHost(t *testing.T) {
	disks := []convert.Disk{{Volume: "/dev/sda", Filesystems: []convert.Filesystem{{Partition: 1, Type: "ext4"}, {Partition: 2, Type: "LVM2_member"}}}}
	mounted := []host.Filesystem{
		{Mount: "/", Type: "xfs", Major: 253, Minor: 2},
		{Mount: "/elsewhere/boot", Type: "ext4", Major: 253, Minor: 9},
		{Mount: "/var", Type: "ext4", Major: 253, Minor: 4},
		{Mount: "/proc/77/root/x", Type: "ext4", Major: 8, Minor: 2},
	}
	if err := stacked(sysfs(t), disks, []string{"8:0"}, mounted); err != nil {
		t.Fatal(err)
	}
	lvm := func(name string) convert.Layer {
		return convert.Layer{Kind: convert.LayerLVM, Group: "my-vg", Name: name}
	}
	want := []convert.Filesystem{
		{Partition: 1, Type: "ext4"},
		{Partition: 2, Type: "LVM2_member"},
		{Partition: 2, Type: "xfs", Mount: "/", Stack: []convert.Layer{lvm("pool_tdata"), {Kind: convert.LayerThin}, lvm("root")}},
		{Partition: 2, Type: "ext4", Mount: "/var", Stack: []convert.Layer{lvm("data"), {Kind: convert.LayerLUKS, Name: "secret"}}},
	}
	want[2].Stack[0].Group, want[2].Stack[2].UUID = "vg", "4yt7Hx-Q2vb-0abc-1def-2ghi-3jkl-Mnopqr"
	if diff := cmp.Diff(want, disks[0].Filesystems); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"critical lvm-thin", "warning encrypted"}, codes(convert.CheckStack(disks))); diff != "" {
		t.Error(diff)
	}
}

// A disk whose partition reaches beyond its end is told, and does not keep the rest from being looked at.
func TestADiskThatIsCutShort(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a loop device")
	}
	image := filepath.Join(t.TempDir(), "disk")
	mbr := make([]byte, 8<<20)
	mbr[510], mbr[511] = 0x55, 0xaa
	copy(mbr[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 16, 0}) // from sector 2048 on, 512 MiB
	if err := os.WriteFile(image, mbr, 0o600); err != nil {
		t.Fatal(err)
	}
	disks, findings, err := liveDisks([]string{attach(t, blockdev.LoopOptions{File: image})})
	if err != nil || len(disks) != 1 {
		t.Fatalf("got %+v, %v", disks, err)
	}
	if diff := cmp.Diff([]string{"critical disk-layout"}, codes(findings)); diff != "" {
		t.Error(diff)
	}
}

// A system that is mounted from a partition of the replicated disk is found by what is in it; one that is not mounted is not guessed.
func TestASystemOnARealDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make loop devices and mount them")
	}
	dir := t.TempDir()
	image := filepath.Join(dir, "disk")
	mbr := make([]byte, 512)
	mbr[510], mbr[511] = 0x55, 0xaa
	copy(mbr[446:], []byte{0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0xf0, 0, 0}) // from sector 2048 on, 30 MiB
	if err := os.WriteFile(image, mbr, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 32<<20); err != nil {
		t.Fatal(err)
	}
	disk := attach(t, blockdev.LoopOptions{File: image})
	part := attach(t, blockdev.LoopOptions{File: disk, Offset: 1 << 20, SizeLimit: 30 << 20})
	if _, err := command.Run(t.Context(), "mke2fs", "-q", "-t", "ext4", "-U", "11111111-2222-3333-4444-555555555555", part); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), "", Request{Disks: []string{disk}}); err == nil || !strings.Contains(err.Error(), "not mounted") {
		t.Errorf("not mounted: got %v", err)
	}
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(part, root, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	files(t, root, map[string]string{
		"etc/os-release": "PRETTY_NAME=\"Some Linux\"\n", "etc/fstab": "/dev/sda1 / ext4 defaults 0 1\n/dev/sdb1 /data ext4 defaults 0 0\n",
		"etc/network/interfaces": "auto lo\n", "sbin/ifup": "x", "usr/bin/x": "x", "lib/modules/" + kernel + "/modules.dep": "kernel/ena.ko:\n",
		"lib/modules/" + kernel + "/modules.builtin": "kernel/drivers/nvme/host/nvme.ko\n", "boot/vmlinuz-" + kernel: "x",
		"boot/grub/grub.cfg": "menuentry 'Linux' {\n\tlinux /boot/vmlinuz-" + kernel + " root=/dev/sda1\n}\n",
	})
	reply, err := Run(t.Context(), "", Request{Disks: []string{disk}, Options: protocol.ConversionSettings{Network: "dhcp"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"critical no-dhcp-client", "warning fstab-missing", "info fstab-device-name"}
	if diff := cmp.Diff(want, codes(reply.Survey.Findings)); diff != "" {
		t.Errorf("%s: %+v", diff, reply.Survey.Findings)
	}
}

func attach(t *testing.T, o blockdev.LoopOptions) string {
	t.Helper()
	loop, err := blockdev.AttachLoop(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loop.Detach(); err != nil {
			t.Error(err)
		}
	})
	return loop.Path
}
