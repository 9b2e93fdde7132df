package image

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/command"
)

// The image is the server that it claims to be; what this test reads on the disk
// is what a migration has to deal with.
func TestImage(t *testing.T) {
	needRoot(t)
	img, err := Build(t.Context(), Options{Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := Copy(t.Context(), img, disk); err != nil {
		t.Fatal(err)
	}
	src, err := Attach(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
		noLeftovers(t, disk)
	}()

	for _, device := range []string{src.Disk, src.partition} {
		if dio := read(t, "/sys/block", filepath.Base(device)+"/loop/dio"); dio != "1\n" {
			t.Errorf("%s: direct I/O is %q: what the filesystem wrote may not be on the disk", device, dio)
		}
	}
	initrd := glob(t, src.Root, "boot/initrd.img-*")
	list, err := command.Run(t.Context(), "chroot", src.Root, "lsinitramfs", initrd)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"virtio_blk.ko": true, "virtio_pci.ko": true, "ext4.ko": true, "nvme": false} {
		if got := bytes.Contains(list, []byte(name)); got != want {
			t.Errorf("%s in the initramfs: %v, want %v", name, got, want)
		}
	}
	glob(t, src.Root, "lib/modules/*/kernel/drivers/nvme/host/nvme.ko")
	glob(t, src.Root, "etc/ssh/ssh_host_ed25519_key")

	menu := read(t, src.Root, "boot/grub/grub.cfg")
	if !strings.Contains(menu, "root=UUID=") || strings.Contains(menu, "loop") || strings.Contains(menu, "ttyS0") {
		t.Errorf("not the menu of a server with a screen:\n%s", menu)
	}
	if id := read(t, src.Root, "etc/machine-id"); len(id) != 33 {
		t.Errorf("machine id %q", id)
	}
	for path, want := range map[string]string{
		"etc/fstab":                                "/dev/vda1 / ext4",
		"etc/network/interfaces":                   "address " + Address,
		"var/www/html/index.html":                  Sentence,
		"etc/udev/rules.d/70-persistent-net.rules": MAC,
	} {
		if !strings.Contains(read(t, src.Root, path), want) {
			t.Errorf("%s does not have %q", path, want)
		}
	}
	installAgent(t, src.Root)
}

// installAgent installs an agent and finds it as systemd would, twice with the same result.
func installAgent(t *testing.T, root string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"binary": "\x7fELF", "unit": "[Service]\n", "config": "server = \"x\"\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := InstallAgent(root, filepath.Join(dir, "binary"), filepath.Join(dir, "unit"), filepath.Join(dir, "config")); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]string{"binary": read(t, root, agentBinary), "unit": read(t, root, agentUnit), "config": read(t, root, agentConfig)}
	if diff := cmp.Diff(files, got); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}
	if to, err := os.Readlink(filepath.Join(root, agentWanted)); err != nil || to != "/"+agentUnit {
		t.Errorf("the unit is enabled as %q, %v", to, err)
	}
	if info, err := os.Stat(filepath.Join(root, agentBinary)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the program is not executable: %v, %v", info, err)
	}
}

// A build that is cancelled in its longest step leaves no mount, loop device,
// process or file behind.
func TestBuildCancelled(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Build(ctx, Options{CacheDir: dir, Progress: func(s string) {
		if strings.HasPrefix(s, "installing") {
			time.AfterFunc(4*time.Second, cancel)
		}
	}})
	if err == nil || ctx.Err() == nil {
		t.Fatalf("got %v before the build was cancelled", err)
	}
	noLeftovers(t, dir)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "source.lock" {
		t.Errorf("left in the cache folder: %v, %v", entries, err)
	}
}

// A build that was killed leaves its devices and its mount; the next one removes them.
func TestSweep(t *testing.T) {
	needRoot(t)
	w := work{dir: filepath.Join(t.TempDir(), "building"), progress: func(string) {}}
	if err := os.MkdirAll(w.root(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.partition(); err != nil {
		t.Fatal(err)
	}
	if _, err := attach(t.Context(), w.disk(), w.root(), w.format); err != nil {
		t.Fatal(err)
	}
	if err := w.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	noLeftovers(t, w.dir)
	if _, err := os.Stat(w.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	if err := w.sweep(t.Context()); err != nil {
		t.Errorf("with nothing left: %v", err)
	}
}

// A disk without the filesystem is refused, and nothing stays attached.
func TestAttachEmptyDisk(t *testing.T) {
	needRoot(t)
	disk := filepath.Join(t.TempDir(), "empty.raw")
	if err := os.WriteFile(disk, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, diskBytes); err != nil {
		t.Fatal(err)
	}
	if src, err := Attach(t.Context(), disk); err == nil {
		t.Errorf("attached %+v", src)
	}
	noLeftovers(t, disk)
}

func TestCheckBootLoader(t *testing.T) {
	t.Parallel()
	boot := append(make([]byte, 510), 0x55, 0xaa)
	fits := make([]byte, rootOffset-sectorBytes)
	if err := checkBootLoader(boot, fits); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"core into the partition": checkBootLoader(boot, append(fits, 0)),
		"empty core":              checkBootLoader(boot, nil),
		"no signature":            checkBootLoader(make([]byte, 512), fits),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDebianSources(t *testing.T) {
	t.Parallel()
	lines := `# deb http://deb.debian.org/debian bookworm main
deb http://mirror.test/debian bookworm main contrib
deb [signed-by=/usr/share/keyrings/x.gpg arch=amd64] http://mirror.test/security  bookworm-security main
deb-src http://mirror.test/debian bookworm main
deb https://docker.test/linux/debian bookworm stable
deb https://cloud.test/apt cloud-sdk-bookworm main
`
	want := `deb http://mirror.test/debian bookworm main contrib
deb [signed-by=/usr/share/keyrings/x.gpg arch=amd64] http://mirror.test/security  bookworm-security main
`
	if diff := cmp.Diff(want, debianLines(lines)); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	debian := "Types: deb\n# http://old.test/\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
	other := "Types: deb\nURIs: https://node.test/\nSuites: nodistro\nComponents: main\n"
	disabled := debian + "Enabled: no\n"
	if diff := cmp.Diff(debian+"\n", debianStanzas(strings.Join([]string{other, debian, disabled}, "\n"))); diff != "" {
		t.Errorf("stanzas (-want +got):\n%s", diff)
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root: loop devices and mounts need it")
	}
}

// noLeftovers fails the test if a mount, a loop device or a process has to do with path.
func noLeftovers(t *testing.T, path string) {
	t.Helper()
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(append(backing, commands...), "/proc/self/mounts") {
		data, _ := os.ReadFile(file) // gone by now: fine
		if bytes.Contains(data, []byte(path)) {
			t.Errorf("left: %s has %q", file, data)
		}
	}
}

func glob(t *testing.T, root, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: found %v, %v, want one file", pattern, found, err)
	}
	return strings.TrimPrefix(found[0], root)
}

func read(t *testing.T, root, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
