package freeze_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"rehost/agent/internal/freeze"
	"rehost/agent/internal/host"
	"rehost/agent/internal/track"
	"rehost/internal/blockdev"
	"rehost/internal/command"
)

const partitionOffset = 1 << 20

// layout is a server's disk as a kernel without partition tables shows it: the whole disk is a loop device, and the root
// partition a second one on top of it, at an offset.
type layout struct {
	file, mount string
	disk        *blockdev.Loop
}

func newLayout(t *testing.T, sizeBytes int64) layout {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l := layout{file: filepath.Join(t.TempDir(), "disk.img"), mount: t.TempDir()}
	f, err := os.Create(l.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(sizeBytes), f.Close()); err != nil {
		t.Fatal(err)
	}
	l.disk = loop(t, blockdev.LoopOptions{File: l.file})
	mkfsMount(t, loop(t, blockdev.LoopOptions{File: l.disk.Path, Offset: partitionOffset}).Path, l.mount)
	return l
}

func loop(t *testing.T, o blockdev.LoopOptions) *blockdev.Loop {
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

func mkfsMount(t *testing.T, device, mount string) {
	t.Helper()
	if _, err := command.Run(t.Context(), "mkfs.ext4", "-q", device); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(device, mount, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
}

func startHelper(t *testing.T) *freeze.Helper {
	t.Helper()
	h, err := freeze.Start(t.Context(), hclog.NewNullLogger(), freeze.Options{Command: []string{"/proc/self/exe", "freeze-helper"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// churn writes, renames and removes files until ctx ends.
func churn(ctx context.Context, t *testing.T, dir string, seed uint64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	for ctx.Err() == nil {
		name := filepath.Join(dir, string(rune('a'+rng.IntN(20))))
		switch rng.IntN(4) {
		case 0:
			_ = os.Remove(name)
		case 1:
			_ = os.Rename(name, name+"x")
		default:
			if err := os.WriteFile(name, data[:rng.IntN(len(data))], 0o600); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// While the filesystem is frozen, a copy that was built from drains alone equals the disk, byte by byte.
func TestAtAFreezeEveryByteIsOnTheDiskAndMarked(t *testing.T) {
	const size = 96 << 20
	l := newLayout(t, size)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)

	found, err := track.FindDisk(l.disk.Path)
	if err != nil {
		t.Fatal(err)
	}
	tracker, err := track.Open(t.Context(), track.Options{Disks: []track.Disk{found}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tracker.Close() }()
	replica := make([]byte, size)
	source, err := blockdev.Open(l.disk.Path, os.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	buf, err := blockdev.AlignedBuffer(int(found.GranuleBytes))
	if err != nil {
		t.Fatal(err)
	}
	copyGranule := func(g int64) {
		n, err := source.ReadAt(buf, g*found.GranuleBytes)
		if err != nil {
			t.Fatal(err)
		}
		copy(replica[g*found.GranuleBytes:], buf[:n])
	}
	for g := range found.Granules() { // the initial sync
		copyGranule(g)
	}
	delta := func() {
		words := map[int]uint64{}
		tracker.Drain(0, func(word int, bits uint64) { words[word] |= bits })
		for word, bits := range words {
			for b := range 64 {
				if bits>>b&1 == 1 {
					copyGranule(int64(word*64 + b))
				}
			}
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { churn(ctx, t, l.mount, seed) })
	defer func() { cancel(); wg.Wait() }()

	h := startHelper(t)
	for range 3 {
		time.Sleep(150 * time.Millisecond)
		delta()
		mounts := mountsOf(t, l.disk.Path)
		if len(mounts) != 1 || mounts[0] != l.mount {
			t.Fatalf("got the filesystems %v, want %s", mounts, l.mount)
		}
		if err := h.Prepare(t.Context(), mounts); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Freeze(t.Context(), freeze.MaxCap); err != nil {
			t.Fatal(err)
		}
		delta()
		status := tracker.Status().Disks[0]
		want, err := os.ReadFile(l.file)
		if err != nil {
			t.Fatal(err)
		}
		_, intact, thawErr := h.Thaw()
		if thawErr != nil || !intact {
			t.Errorf("got intact %v, %v", intact, thawErr)
		}
		if !bytes.Equal(want, replica) {
			t.Errorf("the copy differs from the frozen disk; the tracker: %+v", status)
		}
		if taint := status.Taint(); taint != "" {
			t.Error(taint)
		}
	}
}

func mountsOf(t *testing.T, disk string) []string {
	t.Helper()
	all, err := host.Filesystems([]string{disk})
	if err != nil {
		t.Fatal(err)
	}
	var mounts []string
	for _, f := range all {
		mounts = append(mounts, f.Mount)
	}
	return mounts
}

// A filesystem in a file of another one must be frozen first: its last writes go through the other one.
func TestAFilesystemInAFileIsFrozenFirst(t *testing.T) {
	l := newLayout(t, 96<<20)
	inner := filepath.Join(l.mount, "inner.img")
	f, err := os.Create(inner)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(32<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	mount := t.TempDir()
	mkfsMount(t, loop(t, blockdev.LoopOptions{File: inner}).Path, mount)
	mounts := mountsOf(t, l.disk.Path)
	if len(mounts) != 2 || mounts[0] != mount || mounts[1] != l.mount {
		t.Fatalf("got %v, want %s before %s", mounts, mount, l.mount)
	}
	// Data that only the page cache of the inner filesystem has: freezing it must write to the outer one.
	if err := os.WriteFile(filepath.Join(mount, "data"), make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHelper(t)
	if err := h.Prepare(t.Context(), mounts); err != nil {
		t.Fatal(err)
	}
	r, err := h.Freeze(t.Context(), freeze.MaxCap)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Frozen) != 2 {
		t.Errorf("got %+v", r)
	}
	if _, intact, err := h.Thaw(); err != nil || !intact {
		t.Errorf("got intact %v, %v", intact, err)
	}
}
