package blockdev

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

// image makes an image file filled with one byte.
func image(t *testing.T, sizeBytes int, fill byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, bytes.Repeat([]byte{fill}, sizeBytes), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

func attach(t *testing.T, o LoopOptions) *Loop {
	t.Helper()
	needRoot(t)
	l, err := AttachLoop(t.Context(), o)
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

func TestLoopShowsAPartOfAFile(t *testing.T) {
	path := image(t, 1<<20, 1)
	whole := attach(t, LoopOptions{File: path})
	part := attach(t, LoopOptions{File: whole.Path, Offset: 65536, SizeLimit: 131072, ReadOnly: true})

	d, err := Open(part.Path, os.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	if d.SizeBytes != 131072 || !d.ReadOnly || !d.Block || d.BlockBytes != 512 {
		t.Errorf("got %+v", d)
	}
	w, err := Open(whole.Path, os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	if w.SizeBytes != 1<<20 || w.ReadOnly {
		t.Errorf("got %+v", w)
	}
	if _, err := w.WriteAt(bytes.Repeat([]byte{7}, 512), 65536+512); err != nil {
		t.Fatal(err)
	}
	if err := w.Sync(); err != nil {
		t.Fatal(err)
	}
	buf, err := AlignedBuffer(4096)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(buf, 0); err != nil {
		t.Fatal(err)
	}
	if buf[511] != 1 || buf[512] != 7 || buf[1023] != 7 || buf[1024] != 1 {
		t.Errorf("the part shows other bytes than its range of the whole disk: % x", buf[508:516])
	}
	if err := FreeBuffer(buf); err != nil {
		t.Error(err)
	}
}

func TestDetachTwiceIsNoError(t *testing.T) {
	l := attach(t, LoopOptions{File: image(t, 1<<20, 0)})
	for range 2 {
		if err := l.Detach(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := SizeBytes(l.Path); err == nil {
		t.Error("a detached loop device still has a size")
	}
}

func TestManyAttachAtOnceGetDevicesOfTheirOwn(t *testing.T) {
	needRoot(t)
	path := image(t, 1<<20, 0)
	var (
		mu    sync.Mutex
		loops = map[string]*Loop{}
		wg    sync.WaitGroup
	)
	for range 12 {
		wg.Go(func() {
			l, err := AttachLoop(t.Context(), LoopOptions{File: path, ReadOnly: true})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if loops[l.Path] != nil {
				t.Errorf("%s was given out twice", l.Path)
			}
			loops[l.Path] = l
		})
	}
	wg.Wait()
	for _, l := range loops {
		if err := l.Detach(); err != nil {
			t.Error(err)
		}
	}
}

func TestZeroLeavesTheNeighboursAlone(t *testing.T) {
	path := image(t, 64<<10, 9)
	disk := attach(t, LoopOptions{File: image(t, 64<<10, 9)})
	for _, name := range []string{path, disk.Path} {
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := Zero(f, 4096, 8192); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 64<<10)
		if _, err := f.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte{9}, 64<<10)
		copy(want[4096:], make([]byte, 8192))
		if !bytes.Equal(got, want) {
			t.Errorf("%s: another range than the one asked for is zero", name)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestWrongDisksGetHints(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/dev/no-such-disk", "/dev/null", "/tmp", empty} {
		_, err := SizeBytes(path)
		if err == nil || hint.Of(err) == "" {
			t.Errorf("%s: got %v with hint %q", path, err, hint.Of(err))
		}
	}
	for _, path := range []string{"/dev/no-such-disk", "/dev/null", empty} {
		_, _, err := DevNumber(path)
		if err == nil || hint.Of(err) == "" {
			t.Errorf("%s: got %v with hint %q", path, err, hint.Of(err))
		}
	}
}

func TestDevNumberFindsSysfs(t *testing.T) {
	l := attach(t, LoopOptions{File: image(t, 1<<20, 0)})
	major, minor, err := DevNumber(l.Path)
	if err != nil || major != loopMajor {
		t.Fatalf("got %d:%d, %v", major, minor, err)
	}
	if _, err := os.Stat(filepath.Join(SysPath(major, minor), "stat")); err != nil {
		t.Error(err)
	}
	if err := CheckWhole(l.Path); err != nil {
		t.Errorf("a whole disk was taken for a partition: %v", err)
	}
}

func TestPoolBoundsAndWaits(t *testing.T) {
	p, err := NewPool(8192, 2)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := p.Get(t.Context())
	b, _ := p.Get(t.Context())
	if uintptr(unsafe.Pointer(&a[0]))%4096 != 0 || len(b) != 8192 {
		t.Error("a buffer is not aligned or has another size")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a third buffer: got %v, want it to wait", err)
	}
	p.Put(a[:100])
	if c, err := p.Get(t.Context()); err != nil || len(c) != 8192 {
		t.Errorf("got %d bytes, %v", len(c), err)
	}
	p.Put(a)
	p.Put(b)
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
