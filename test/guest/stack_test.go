package guest

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/protocol"
	"rehost/test/migration"
)

// blank makes further disks.
func blank(t *testing.T, n int) (paths []string) {
	t.Helper()
	for i := range n {
		path := filepath.Join(t.TempDir(), "disk"+strconv.Itoa(i)+".raw")
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, stackBytes); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// addPackages unpacks Debian packages, and those that they need and the server has not, without running their scripts.
func addPackages(t *testing.T, root string, names ...string) {
	t.Helper()
	cache := t.TempDir()
	if err := os.MkdirAll(filepath.Join(cache, "partial"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-qq", "-y", "-o", "Dir::State::status=" + filepath.Join(root, "var/lib/dpkg/status"), "-o", "Dir::Cache::archives=" + cache,
		"-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "install", "--download-only", "--no-install-recommends",
	}
	if _, err := command.Run(t.Context(), "apt-get", append(args, names...)...); err != nil {
		t.Fatal(err)
	}
	packages, err := filepath.Glob(filepath.Join(cache, "*.deb"))
	if err != nil || len(packages) < len(names) {
		t.Fatalf("got %v, %v", packages, err)
	}
	for _, p := range packages {
		// Into usr: bin, sbin and lib are links there, which tar would replace by folders.
		script := `set -e; dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"`
		if _, err := command.Run(t.Context(), "sh", "-c", script, "sh", p, root); err != nil {
			t.Fatal(err)
		}
	}
}

// compareStack looks at the further disks' snapshots: the files in each folder are what they are on the source, and the
// ext4, which lies in both halves of the mirror, says itself that it was frozen.
func compareStack(ctx context.Context, t *testing.T, m *migration.Migration, g *machine, point protocol.Point, sums map[string]string) {
	t.Helper()
	number := func(script string) int64 {
		n, err := strconv.ParseInt(strings.TrimSpace(g.run(ctx, t, script)), 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", script, err)
		}
		return n
	}
	lvm := number("pvs --noheadings --nosuffix --units b -o pe_start /dev/vdb")
	md := number("mdadm -E /dev/vdc | sed -n 's/.*Data Offset : \\([0-9]*\\) sectors.*/\\1/p'") * 512
	for _, part := range []struct {
		disk           int
		offset, length int64
		kind, options  string
		folder         string
	}{
		{1, lvm, number("blockdev --getsize64 /dev/data/shop"), "xfs", "nouuid", "/srv/lvm"},
		{2, md, number("blockdev --getsize64 /dev/md/*mirror*"), "ext4", "", "/srv/md"},
		{3, md, number("blockdev --getsize64 /dev/md/*mirror*"), "ext4", "", "/srv/md"},
	} {
		copied := filepath.Join(m.Dir(), "part.raw")
		if _, err := command.Run(ctx, "cp", "--reflink=auto", "--sparse=always", m.Snapshot(point.Snapshots[part.disk]), copied); err != nil {
			t.Fatal(err)
		}
		l, err := blockdev.AttachLoop(ctx, blockdev.LoopOptions{File: copied, Offset: part.offset, SizeLimit: part.length})
		if err != nil {
			t.Fatal(err)
		}
		if part.kind == "ext4" {
			features, err := command.Run(ctx, "dumpe2fs", "-h", l.Path)
			if err != nil || strings.Contains(string(features), "needs_recovery") {
				t.Errorf("disk %d: its ext4 was not frozen: %v\n%s", part.disk, err, features)
			}
		}
		compareFiles(ctx, t, l.Path, part.kind, part.options, sums[part.folder])
		if err := l.Detach(); err != nil {
			t.Error(err)
		}
	}
}

func compareFiles(ctx context.Context, t *testing.T, device, kind, options, sums string) {
	t.Helper()
	mount := t.TempDir()
	if err := unix.Mount(device, mount, kind, 0, options); err != nil {
		t.Error(err)
		return
	}
	defer func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	}()
	out, err := command.RunIn(ctx, mount, []byte(sums), "sha256sum", "--check", "--quiet", "--strict")
	if n := strings.Count(sums, "\n"); err != nil || n == 0 {
		t.Errorf("%d files of %s on %s: %v\n%s", n, kind, device, err, out)
	}
}
