package host

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/internal/hint"
)

// disk attaches an image of the given size as a disk.
func disk(t *testing.T, sizeBytes int64, readOnly bool) (file string, l *blockdev.Loop) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file = filepath.Join(t.TempDir(), "disk.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(sizeBytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file, attach(t, blockdev.LoopOptions{File: file, ReadOnly: readOnly})
}

func attach(t *testing.T, o blockdev.LoopOptions) *blockdev.Loop {
	t.Helper()
	l, err := blockdev.AttachLoop(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Detach(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := command.Run(t.Context(), name, args...); err != nil {
		t.Fatal(err)
	}
}

func mountOn(t *testing.T, source string, flags uintptr) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "with space")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, dir, "ext4", flags, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	return dir
}

func TestFilesystemsFollowDevicesDownToTheDisk(t *testing.T) {
	_, whole := disk(t, 96<<20, false)
	_, other := disk(t, 32<<20, false)
	first := attach(t, blockdev.LoopOptions{File: whole.Path, Offset: 1 << 20, SizeLimit: 60 << 20})
	second := attach(t, blockdev.LoopOptions{File: whole.Path, Offset: 64 << 20})
	for _, l := range []*blockdev.Loop{first, second, other} {
		run(t, "mkfs.ext4", "-q", l.Path)
	}
	a, b := mountOn(t, first.Path, 0), mountOn(t, second.Path, 0)
	mountOn(t, other.Path, 0)
	bind := t.TempDir()
	if err := unix.Mount(a, bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(bind, 0) })
	inner := filepath.Join(a, "inner.img")
	if err := os.WriteFile(inner, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	nested := attach(t, blockdev.LoopOptions{File: inner})
	run(t, "mkfs.ext4", "-q", nested.Path)
	c := mountOn(t, nested.Path, 0)
	if err := os.Remove(inner); err != nil { // the name is gone, the dependency is not
		t.Fatal(err)
	}

	all, err := Filesystems([]string{whole.Path})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range all {
		got = append(got, f.Mount)
		if f.Type != "ext4" || f.ReadOnly {
			t.Errorf("got %+v", f)
		}
	}
	if diff := cmp.Diff([]string{c, b, a}, got); diff != "" {
		t.Errorf("filesystems in freezing order (-want +got):\n%s", diff)
	}
}

func TestDisksThatCannotBeReplicated(t *testing.T) {
	_, empty := disk(t, 8<<20, false)
	if err := CheckDisk(empty.Path); err != nil {
		t.Errorf("a disk without content: %v", err)
	}

	file, swap := disk(t, 8<<20, false)
	run(t, "mkswap", "-q", swap.Path)
	_, readOnly := disk(t, 8<<20, true)
	_, mounted := disk(t, 32<<20, false)
	run(t, "mkfs.ext4", "-q", mounted.Path)
	mount := mountOn(t, mounted.Path, unix.MS_RDONLY)
	for path, want := range map[string]string{
		"/dev/no-such-disk": "no such file",
		file:                "not a block device",
		"/dev/null":         "not a block device",
		swap.Path:           "only swap",
		readOnly.Path:       "is read-only",
		mounted.Path:        "mounted read-only on " + mount,
	} {
		err := CheckDisk(path)
		if err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("%s: got %v with hint %q, want %q", path, err, hint.Of(err), want)
		}
	}
	if err := unix.Mount("", mount, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if err := CheckDisk(mounted.Path); err != nil {
		t.Errorf("after it was mounted read-write: %v", err)
	}
}

func TestADetachedDiskHasZeroBytes(t *testing.T) {
	_, l := disk(t, 8<<20, false)
	if err := l.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := CheckDisk(l.Path); err == nil || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}

func TestSortToFreeze(t *testing.T) {
	all := []Filesystem{
		{Mount: "/", order: 9},
		{Mount: "/var", order: 2},
		{Mount: "/var/lib", order: 3},
		{Mount: "/tmp", Nested: 1, order: 1},
		{Mount: "/deep", Nested: 2, order: 0},
	}
	sortToFreeze(all)
	var got []string
	for _, f := range all {
		got = append(got, f.Mount)
	}
	if diff := cmp.Diff([]string{"/deep", "/tmp", "/var/lib", "/var", "/"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseMounts(t *testing.T) {
	text := `22 27 0:21 / /proc rw,relatime - proc proc rw
garbage
36 35 0:99 /sub /mnt/a\040b rw shared:1 - nfs4 host:/x ro,vers=4
`
	got := parseMounts(text, "/proc/7/root", 10)
	want := []mountPoint{
		{id: "22", device: device{0, 21}, root: "/", path: "/proc/7/root/proc", kind: "proc", source: "proc", order: 10},
		{id: "36", device: device{0, 99}, root: "/sub", path: "/proc/7/root/mnt/a b", kind: "nfs4", source: "host:/x", readOnly: true, order: 11},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mountPoint{}, device{})); diff != "" {
		t.Error(diff)
	}
}

func TestFacts(t *testing.T) {
	f, err := ReadFacts()
	if err != nil {
		t.Fatal(err)
	}
	if f.Kernel == "" || len(f.BootID) != 36 || f.Cores < 1 || f.MemoryBytes < 1<<27 || f.Hostname == "" {
		t.Errorf("got %+v", f)
	}
	if f.Address != "" && net.ParseIP(f.Address).To4() == nil {
		t.Errorf("the address is %q", f.Address)
	}
	name, id, version := parseRelease("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n")
	if name != "Debian GNU/Linux 12 (bookworm)" || id != "debian" || version != "12" {
		t.Errorf("got %q, %q, %q", name, id, version)
	}
}
