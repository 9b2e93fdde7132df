package convert

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rehost/internal/cpio"
	"rehost/protocol"
)

const (
	testKernel = "6.1.0-56-amd64"
	rootUUID   = "ac18a43c-bffe-4691-bc4f-9b900923d828"
	swapUUID   = "5e2b4c1d-9077-4a61-8c3f-12e4550a6b21"
)

// tree is a guest's files: path to content. A content "-> x" makes a link.
type tree map[string]string

const grubCfgOfDebian = `set default="0"
if [ "${recordfail}" = 1 ] ; then
  set timeout=30
else
  set timeout=5
fi
terminal_output gfxterm
### END /etc/grub.d/00_header ###
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple' {
	search --no-floppy --fs-uuid --set=root ` + rootUUID + `
	linux	/boot/vmlinuz-` + testKernel + ` root=/dev/vda1 ro  quiet
	initrd	/boot/initrd.img-` + testKernel + `
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced' {
	menuentry 'Debian GNU/Linux, recovery mode' --class debian $menuentry_id_option 'gnulinux-recovery' {
		linux	/boot/vmlinuz-` + testKernel + ` root=/dev/vda1 ro single
	}
}
`

// debian is a server as an installer on a virtio hypervisor leaves it.
func debian(tb testing.TB) tree {
	tb.Helper()
	lib := "lib/modules/" + testKernel + "/"
	return tree{
		"etc/os-release":         "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"etc/fstab":              "# <file system> <mount point>\n/dev/vda1 / ext4 errors=remount-ro 0 1\n/dev/vda2\tnone\tswap sw 0 0\n/dev/vdb1 /data ext4 defaults 0 2\n",
		"etc/default/grub":       "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n",
		"etc/network/interfaces": "auto ens3\niface ens3 inet static\n    address 10.0.2.15/24\n",
		"etc/udev/rules.d/70-persistent-net.rules":                        "SUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:12:34:56\", NAME=\"ens3\"\n",
		"etc/udev/rules.d/60-other.rules":                                 "SUBSYSTEM==\"block\", TAG+=\"x\"\n",
		"etc/initramfs-tools/modules":                                     "virtio_blk\n",
		"etc/initramfs-tools/conf.d/resume":                               "RESUME=/dev/vda2\n",
		"etc/rehost/agent.hcl":                                            "server = \"ledger\"\n",
		"etc/systemd/system/rehost-agent.service":                         "[Service]\n",
		"etc/systemd/system/multi-user.target.wants/rehost-agent.service": "-> /etc/systemd/system/rehost-agent.service",
		"usr/lib/systemd/system/open-vm-tools.service":                    "[Service]\n",
		"usr/bin/rehost-agent":                                            "agent",
		"usr/sbin/update-initramfs":                                       "#!/bin/sh\n",
		"usr/sbin/ifup":                                                   "x",
		"usr/sbin/dhclient":                                               "x",
		"var/lib/rehost/agent/identity.json":                              "{}",
		"lib":                                                             "-> usr/lib",
		"sbin":                                                            "-> usr/sbin",
		"boot/grub/grub.cfg":                                              grubCfgOfDebian,
		"boot/grub/device.map":                                            "(hd0) /dev/vda\n",
		"boot/grub/i386-pc/serial.mod":                                    "x",
		"boot/vmlinuz-" + testKernel:                                      "x",
		"boot/initrd.img-" + testKernel:                                   initrd(tb, tree{"lib/modules/" + testKernel + "/kernel/virtio_blk.ko": "x", "conf/modules": "virtio_blk\n", "conf/conf.d/zz-resume-auto": "RESUME=/dev/vda2\n"}),
		"usr/" + lib + "modules.dep":                                      "kernel/nvme.ko.xz: kernel/nvme-core.ko.xz\nkernel/nvme-core.ko.xz:\nkernel/ena.ko:\nkernel/virtio_blk.ko:\n",
		"usr/" + lib + "modules.dep.bin":                                  "dep",
		"usr/" + lib + "modules.alias.bin":                                "alias",
		"usr/" + lib + "modules.builtin":                                  "kernel/fs/ext4/ext4.ko\n",
		"usr/" + lib + "kernel/nvme.ko.xz":                                "nvme module",
		"usr/" + lib + "kernel/nvme-core.ko.xz":                           "nvme core",
		"usr/" + lib + "kernel/ena.ko":                                    "ena module",
		"usr/" + lib + "kernel/virtio_blk.ko":                             "virtio module",
	}
}

// testDisks are the attached disks of the server: the second one of the source is missing.
var testDisks = []Disk{{Volume: "vol-1", Boot: true, Filesystems: []Filesystem{
	{Partition: 1, Type: "ext4", UUID: rootUUID, PartUUID: "1ed9e123-01"},
	{Partition: 2, Type: "swap", UUID: swapUUID},
}}}

// initrd returns a gzip image with the given files.
func initrd(tb testing.TB, files tree) string {
	tb.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	w := cpio.NewWriter(zw)
	for _, name := range sortedKeys(files) {
		if err := w.Write(name, cpio.ModeFile|0o644, []byte(files[name])); err != nil {
			tb.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zw.Close()); err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

// write creates the files below dir.
func (tr tree) write(tb testing.TB, dir string) {
	tb.Helper()
	for _, name := range sortedKeys(tr) { // a link to a folder may come before the files in it
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			tb.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(tr[name], "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(tr[name]), 0o640)
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

func newGuest(tb testing.TB, files tree) (dir string, root *Root) {
	tb.Helper()
	dir = filepath.Join(tb.TempDir(), "guest")
	if err := os.Mkdir(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	files.write(tb, dir)
	root, err := Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = root.Close() })
	return dir, root
}

// snapshot returns every file below dir with mode and content's hash; times and folders' modes do not count.
func snapshot(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, dir)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			found[name], err = os.Readlink(path)
		case info.Mode().IsRegular():
			data, e := os.ReadFile(path)
			err = e
			attribute := make([]byte, 100)
			n, _ := unix.Getxattr(path, "user.test", attribute)
			found[name] = fmt.Sprintf("%v %x %s", info.Mode(), sha256.Sum256(data), attribute[:max(n, 0)])
		default:
			found[name] = info.Mode().String()
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func planFor(tb testing.TB, root *Root, set protocol.ConversionSettings) (Plan, error) {
	tb.Helper()
	facts, err := Inspect(root, testDisks)
	if err != nil {
		tb.Fatal(err)
	}
	facts.Guest.RootUUID = rootUUID
	return MakePlan(facts, set)
}

func convertTree(tb testing.TB, root *Root) []protocol.Change {
	tb.Helper()
	plan, err := planFor(tb, root, protocol.ConversionSettings{})
	if err != nil {
		tb.Fatal(err)
	}
	changes, err := Apply(root, plan)
	if err != nil {
		tb.Fatal(err)
	}
	return changes
}

func content(tb testing.TB, dir, name string) string {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

func TestConversionOfDebian(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	changes := convertTree(t, root)

	want := tree{
		"etc/fstab": "# <file system> <mount point>\nUUID=" + rootUUID + " / ext4 errors=remount-ro 0 1\nUUID=" + swapUUID +
			"\tnone\tswap sw 0 0\n/dev/vdb1 /data ext4 defaults,nofail,x-systemd.device-timeout=5s 0 2\n",
		"etc/network/interfaces": "# Written by rehost. The file that was here is kept in /var/lib/rehost/conversion.\n" +
			"auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
		"etc/initramfs-tools/modules":       "virtio_blk\nnvme\nena\n",
		"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=" + swapUUID + "\n",
		"etc/default/grub": "GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\n" +
			"GRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0,115200n8 nvme_core.io_timeout=4294967295 net.ifnames=0 biosdevname=0\"\n" +
			"GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\nGRUB_TERMINAL=\"console serial\"\n",
	}
	for name, text := range want {
		if diff := cmp.Diff(text, content(t, dir, name)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	config := content(t, dir, "boot/grub/grub.cfg")
	line := "\tlinux\t/boot/vmlinuz-" + testKernel + " root=UUID=" + rootUUID + " ro console=tty0 console=ttyS0,115200n8 nvme_core.io_timeout=4294967295 net.ifnames=0 biosdevname=0\n"
	if !strings.Contains(config, line) || strings.Contains(config, "quiet") || strings.Contains(config, "timeout=5") ||
		strings.Contains(config, "gfxterm") || !strings.Contains(config, "terminal_output --append serial") {
		t.Errorf("got grub.cfg:\n%s", config)
	}
	for _, name := range []string{
		"usr/bin/rehost-agent", "etc/systemd/system/rehost-agent.service", "etc/rehost/agent.hcl", "var/lib/rehost/agent/identity.json",
		"etc/systemd/system/multi-user.target.wants/rehost-agent.service", "boot/grub/device.map", "etc/udev/rules.d/70-persistent-net.rules",
		"etc/rehost", "var/lib/rehost/agent",
	} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if target, _ := os.Readlink(filepath.Join(dir, "etc/systemd/system/open-vm-tools.service")); target != "/dev/null" {
		t.Errorf("open-vm-tools is not masked: %q", target)
	}
	for _, c := range changes {
		if c.After == "" {
			continue
		}
		if got, err := fileSum(root, c.Path); err != nil || got != c.After {
			t.Errorf("%s: got sha256 %s, %v, the change says %s", c.Path, got, err, c.After)
		}
	}
}

func TestInitramfsHasDriversAfterConversion(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	before := content(t, dir, "boot/initrd.img-"+testKernel)
	convertTree(t, root)
	after := content(t, dir, "boot/initrd.img-"+testKernel)
	if !strings.HasPrefix(after, before) {
		t.Fatal("the guest's own image was changed")
	}
	files := tree{} // as the kernel unpacks it: the last one wins
	if _, err := cpio.Walk(strings.NewReader(after), func(e cpio.Entry, r io.Reader) error {
		data, err := io.ReadAll(r)
		if e.Mode&cpio.ModeFile == cpio.ModeFile {
			files[e.Name] = string(data)
		} else if e.Name == "lib" {
			t.Error("the archive has an entry for lib, which may be a link in the guest's image")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	lib := "lib/modules/" + testKernel + "/"
	want := tree{
		lib + "kernel/nvme.ko.xz": "nvme module", lib + "kernel/nvme-core.ko.xz": "nvme core", lib + "kernel/ena.ko": "ena module",
		lib + "kernel/virtio_blk.ko": "x", lib + "modules.dep.bin": "dep", lib + "modules.alias.bin": "alias",
		lib + "modules.builtin":      "kernel/fs/ext4/ext4.ko\n",
		lib + "modules.dep":          debian(t)["usr/"+lib+"modules.dep"],
		"conf/modules":               "virtio_blk\nnvme\nena\n",
		"conf/conf.d/zz-resume-auto": "RESUME=UUID=" + swapUUID + "\n",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files in the initramfs (-want +got):\n%s", diff)
	}
}

func TestSecondConversionChangesNothing(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	convertTree(t, root)
	before := snapshot(t, dir)
	if changes := convertTree(t, root); len(changes) != 0 {
		t.Errorf("got changes %+v", changes)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("the second conversion changed files:\n%s", diff)
	}
}

func TestUndoRestoresEveryByte(t *testing.T) {
	files := debian(t)
	dir, root := newGuest(t, files)
	if err := os.Chmod(filepath.Join(dir, "etc/fstab"), 0o604); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setxattr(filepath.Join(dir, "etc/fstab"), "user.test", []byte("kept"), 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	convertTree(t, root)
	converted := snapshot(t, dir)
	if strings.Fields(converted["/etc/fstab"])[0] != strings.Fields(before["/etc/fstab"])[0] {
		t.Errorf("got mode %s of fstab, want %s", converted["/etc/fstab"], before["/etc/fstab"])
	}
	if err := Undo(root); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("after the undo (-before +after):\n%s", diff)
	}
	// And the other way round again: the result is the same.
	convertTree(t, root)
	if diff := cmp.Diff(converted, snapshot(t, dir)); diff != "" {
		t.Errorf("after converting again (-first +second):\n%s", diff)
	}
}

func TestInterruptedConversionIsCompleted(t *testing.T) {
	whole, wholeRoot := newGuest(t, debian(t))
	convertTree(t, wholeRoot)
	want := snapshot(t, whole)
	delete(want, recordFile) // it lists the changes in the order in which they were made

	plan, err := planFor(t, wholeRoot, protocol.ConversionSettings{})
	if err != nil || len(plan.Edits) != 0 {
		t.Fatalf("got %v, %v", plan.Edits, err)
	}
	dir, root := newGuest(t, debian(t))
	plan, err = planFor(t, root, protocol.ConversionSettings{})
	if err != nil {
		t.Fatal(err)
	}
	original := snapshot(t, dir)
	for n := range plan.Edits {
		// What a machine that lost its power leaves: the record, and the first n changes.
		if err := keepOriginals(root, plan.Edits); err != nil {
			t.Fatal(err)
		}
		if _, err := Apply(root, Plan{Edits: plan.Edits[:n]}); err != nil {
			t.Fatal(err)
		}
		convertTree(t, root)
		got := snapshot(t, dir)
		delete(got, recordFile)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("interrupted after %d changes (-want +got):\n%s", n, diff)
		}
		if err := Undo(root); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(original, snapshot(t, dir)); diff != "" {
			t.Fatalf("undone after an interruption (-want +got):\n%s", diff)
		}
	}
}

func TestApplyRefusesFileThatChangedSinceThePlan(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	plan, err := planFor(t, root, protocol.ConversionSettings{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/fstab"), []byte("other\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	if _, err := Apply(root, plan); err == nil || !strings.Contains(err.Error(), "/etc/fstab") {
		t.Errorf("got error %v, want one that names /etc/fstab", err)
	}
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("files changed all the same:\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	lib := "usr/lib/modules/" + testKernel + "/"
	for _, tt := range []struct {
		name   string
		change func(tree)
		want   string
	}{
		{"no nvme driver", func(f tree) { f[lib+"modules.dep"] = "kernel/ena.ko:\n" }, "nvme"},
		{"no ena driver", func(f tree) {
			f[lib+"modules.dep"] = "kernel/nvme.ko.xz: kernel/nvme-core.ko.xz\nkernel/nvme-core.ko.xz:\n"
		}, "ena"},
		{"no kernel", func(f tree) { delete(f, lib+"modules.dep") }, "no kernel"},
		{"no grub.cfg", func(f tree) { delete(f, "boot/grub/grub.cfg") }, "kernel that will boot"},
		{"no modules of the kernel that boots", func(f tree) {
			f["boot/grub/grub.cfg"] = strings.ReplaceAll(grubCfgOfDebian, testKernel, "5.10.0-1-amd64")
		}, "5.10.0-1-amd64"},
		{"no initramfs", func(f tree) { delete(f, "boot/initrd.img-"+testKernel) }, "no initramfs"},
		{"no DHCP client", func(f tree) { delete(f, "usr/sbin/dhclient") }, "DHCP client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := debian(t)
			tt.change(files)
			dir, root := newGuest(t, files)
			before := snapshot(t, dir)
			_, err := planFor(t, root, protocol.ConversionSettings{})
			var p *protocol.Problem
			if !errors.As(err, &p) || p.Code != protocol.ProblemConversion || p.Hint == "" || !strings.Contains(p.Message, tt.want) {
				t.Errorf("got %+v, want a problem with a hint that says %q", err, tt.want)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("files changed:\n%s", diff)
			}
		})
	}
}

func TestBuiltinDriversNeedNoArchive(t *testing.T) {
	files := debian(t)
	lib := "usr/lib/modules/" + testKernel + "/"
	files[lib+"modules.builtin"] = "kernel/drivers/nvme/host/nvme.ko\nkernel/drivers/net/ena.ko\n"
	files["boot/initrd.img-"+testKernel] = initrd(t, tree{"init": "x"})
	_, root := newGuest(t, files)
	for _, c := range convertTree(t, root) {
		if c.Action == ActionAppend {
			t.Errorf("got %+v", c)
		}
	}
}

func TestKeepNetwork(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	plan, err := planFor(t, root, protocol.ConversionSettings{Network: "keep"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(root, plan); err != nil {
		t.Fatal(err)
	}
	if got := content(t, dir, "etc/network/interfaces"); got != debian(t)["etc/network/interfaces"] {
		t.Errorf("got interfaces %q", got)
	}
	// The name in it is given to the first card, which the kernel calls eth0.
	if got := content(t, dir, "boot/grub/grub.cfg"); !strings.Contains(got, "net.ifnames=0") {
		t.Errorf("got grub.cfg %q", got)
	}
	if got := content(t, dir, cardRules); !strings.Contains(got, `KERNEL=="eth0", NAME="ens3"`) {
		t.Errorf("got rules %q", got)
	}
}

func TestPlanIsJSONWithoutContents(t *testing.T) {
	_, root := newGuest(t, debian(t))
	plan, err := planFor(t, root, protocol.ConversionSettings{})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("nvme module")) || !slices.ContainsFunc(plan.Edits, func(e Edit) bool { return e.Action == ActionAppend }) {
		t.Errorf("got %s", data)
	}
}
