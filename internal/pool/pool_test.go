package pool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
)

// open opens a pool on its own XFS image, also where /tmp has reflinks.
func open(t *testing.T, dir string) *Pool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a loop device")
	}
	image := filepath.Join(dir, "pool.img")
	if !exists(image) {
		if err := makeImage(t.Context(), image, 320<<20); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Open(t.Context(), Options{Dir: dir, SizeBytes: 320 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func allocated(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

func TestCloneIsAFrozenCopyThatSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir)
	src, dst := filepath.Join(p.Root(), "a"), filepath.Join(p.Root(), "b")
	if err := p.CreateSparse(src, 64<<20); err != nil {
		t.Fatal(err)
	}
	if got := allocated(t, src); got != 0 {
		t.Errorf("an empty sparse file takes %d bytes", got)
	}
	f, err := os.OpenFile(src, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	before, after := bytes.Repeat([]byte{1}, 1<<20), bytes.Repeat([]byte{2}, 1<<20)
	if _, err := f.WriteAt(before, 5<<20); err != nil {
		t.Fatal(err)
	}
	free, _ := p.Free()
	if err := p.Clone(src, dst); err != nil {
		t.Fatal(err)
	}
	if now, _ := p.Free(); free-now > 1<<20 {
		t.Errorf("the clone took %d bytes", free-now)
	}
	if _, err := f.WriteAt(after, 5<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if exists(src) {
		t.Fatal("still mounted after Close")
	}
	if out, _ := command.Run(t.Context(), "losetup", "--associated", filepath.Join(dir, "pool.img")); len(out) != 0 {
		t.Errorf("loop device left behind: %s", out)
	}

	p = open(t, dir)
	defer func() { _ = p.Close() }()
	got := make([]byte, 1<<20)
	g, err := os.Open(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	if _, err := g.ReadAt(got, 5<<20); err != nil || !bytes.Equal(got, before) {
		t.Errorf("the clone does not hold the state at its moment (%v)", err)
	}
}

func TestAPoolIsHeldByOneProcessAndItsMountTakenOver(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir)
	if _, err := Open(t.Context(), Options{Dir: dir, SizeBytes: 320 << 20}); err == nil || hint.Of(err) == "" {
		t.Fatalf("a second Open gave %v, hint %q", err, hint.Of(err))
	}
	if err := p.CreateSparse(filepath.Join(p.Root(), "a"), 1<<20); err != nil {
		t.Fatal(err)
	}
	// As after kill -9: the lock is gone, the mount is still there.
	_ = p.lock.Close()
	q := open(t, dir)
	if !exists(filepath.Join(q.Root(), "a")) {
		t.Error("the mount was not taken over")
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFullPoolAndATooSmallOneHint(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir)
	defer func() { _ = p.Close() }()
	path := filepath.Join(p.Root(), "full")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1<<30); err == nil {
		t.Fatal("1 GiB fits into 320 MiB")
	}
	_ = f.Close()
	if err := p.explain(unix.ENOSPC); hint.Of(err) == "" || !strings.Contains(err.Error(), "full") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	if err := makeImage(t.Context(), filepath.Join(dir, "x.img"), 1<<20); hint.Of(err) == "" {
		t.Errorf("got %v without a hint", err)
	}
	if err := p.Clone(filepath.Join(p.Root(), "none"), filepath.Join(p.Root(), "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want a missing file", err)
	}
}

func TestAMissingProgramHints(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	image := filepath.Join(t.TempDir(), "pool.img")
	if err := makeImage(t.Context(), image, 320<<20); !strings.Contains(hint.Of(err), "xfsprogs") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	if left, _ := filepath.Glob(image + "*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
