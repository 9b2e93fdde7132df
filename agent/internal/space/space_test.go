package space

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
)

// volume is a filesystem on a disk, or on a part of it.
type volume struct {
	t          *testing.T
	file, disk string
	kind, dir  string
	offset     int64
}

func attach(t *testing.T, o blockdev.LoopOptions) string {
	t.Helper()
	l, err := blockdev.AttachLoop(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Detach() })
	return l.Path
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if _, err := command.Run(t.Context(), name, args...); err != nil {
		t.Fatal(err)
	}
}

func mountOn(t *testing.T, device, kind string) string {
	t.Helper()
	dir := t.TempDir()
	options := ""
	if kind == "xfs" {
		options = "nouuid"
	}
	if err := unix.Mount(device, dir, kind, 0, options); err != nil {
		t.Fatalf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	return dir
}

// newVolume makes a disk full of noise with a filesystem from offset on, which has it overwritten as far as it uses it.
func newVolume(t *testing.T, kind string, size, offset int64) *volume {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	v := &volume{t: t, file: filepath.Join(t.TempDir(), "disk"), kind: kind, offset: offset}
	f, err := os.Create(v.file)
	if err == nil {
		err = errors.Join(f.Truncate(size+offset), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	v.disk = attach(t, blockdev.LoopOptions{File: v.file})
	device := v.disk
	if offset > 0 {
		device = attach(t, blockdev.LoopOptions{File: v.disk, Offset: offset})
	}
	run(t, "mkfs."+kind, map[string][]string{"ext4": {"-q", "-F", device}, "xfs": {"-q", "-f", device}, "btrfs": {"-q", "-f", device}}[kind]...)
	v.dir = mountOn(t, device, kind)
	return v
}

func (v *volume) free() ([]Range, []Finding) {
	v.t.Helper()
	ranges, findings, err := Free(v.t.Context(), v.disk)
	if err != nil {
		v.t.Fatal(err)
	}
	end := int64(0)
	for _, r := range ranges {
		if r.Offset < end || r.Length < minRange {
			v.t.Fatalf("range %+v after %d", r, end)
		}
		end = r.Offset + r.Length
	}
	return ranges, findings
}

// scribble writes noise over the free ranges of a copy of the disk, and returns what its filesystem then holds.
func (v *volume) scribble(ranges []Range) map[string][32]byte {
	v.t.Helper()
	unix.Sync() // the copy shall have the files that the filesystem has, not what its journal has got to
	copied := filepath.Join(v.t.TempDir(), "copy")
	run(v.t, "cp", "--sparse=always", v.file, copied)
	f, err := os.OpenFile(copied, os.O_RDWR, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	noise := bytes.Repeat([]byte("this was free. "), 70000)
	for _, r := range ranges {
		for at := r.Offset; at < r.Offset+r.Length; at += int64(len(noise)) {
			if _, err := f.WriteAt(noise[:min(int64(len(noise)), r.Offset+r.Length-at)], at); err != nil {
				v.t.Fatal(err)
			}
		}
	}
	if err := f.Close(); err != nil {
		v.t.Fatal(err)
	}
	loop, err := blockdev.AttachLoop(v.t.Context(), blockdev.LoopOptions{File: copied, Offset: v.offset})
	if err != nil {
		v.t.Fatal(err)
	}
	dir := mountOn(v.t, loop.Path, v.kind)
	got := sums(v.t, dir)
	if err := errors.Join(unix.Unmount(dir, 0), loop.Detach(), os.Remove(copied)); err != nil {
		v.t.Fatal(err)
	}
	return got
}

func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// churn creates, grows, renames and removes files, and syncs few of them.
func churn(t *testing.T, dir string, rng *rand.Rand, steps int) {
	t.Helper()
	b := make([]byte, 1<<20)
	for range steps {
		path := filepath.Join(dir, fmt.Sprintf("f%d", rng.IntN(40)))
		var err error
		switch rng.IntN(6) {
		case 0:
			err = os.Remove(path)
		case 1:
			err = os.Rename(path, filepath.Join(dir, fmt.Sprintf("f%d", rng.IntN(40))))
		default:
			for i := range b[:4096] {
				b[i] = byte(rng.Uint32())
			}
			var f *os.File
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600); err == nil {
				_, err = f.WriteAt(b[:1+rng.IntN(len(b)-1)], rng.Int64N(512<<10))
				if rng.IntN(5) == 0 {
					err = errors.Join(err, f.Sync())
				}
				err = errors.Join(err, f.Close())
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

func total(ranges []Range) (n int64) {
	for _, r := range ranges {
		n += r.Length
	}
	return n
}

// What is called free may hold anything: no file is hurt, also none of which the journal knows nothing yet.
func TestNoiseInFreeSpaceHurtsNoFile(t *testing.T) {
	for name, c := range map[string]struct {
		kind         string
		size, offset int64
	}{
		"ext4": {"ext4", 96 << 20, 0}, "ext4 on a part": {"ext4", 96 << 20, 7 << 20}, "xfs": {"xfs", 320 << 20, 0}, "xfs on a part": {"xfs", 320 << 20, 5 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			v := newVolume(t, c.kind, c.size, c.offset)
			for round := range 5 {
				churn(t, v.dir, rng, 60)
				ranges, findings := v.free() // right after the writes, most of which were never synced
				if len(findings) > 0 {
					t.Fatalf("findings %v", findings)
				}
				if free := total(ranges); free < c.size/3 || free > c.size {
					t.Errorf("round %d: %d MiB are free of %d", round, free>>20, c.size>>20)
				}
				want := sums(t, v.dir)
				got := v.scribble(ranges)
				if len(got) != len(want) {
					t.Fatalf("round %d: %d files, want %d", round, len(got), len(want))
				}
				for path, sum := range want {
					if got[path] != sum {
						t.Errorf("round %d: %s is damaged", round, path)
					}
				}
			}
		})
	}
}

func TestSpaceOfARemovedFileIsFree(t *testing.T) {
	v := newVolume(t, "ext4", 96<<20, 0)
	before, _ := v.free()
	big := filepath.Join(v.dir, "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), 30<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	with, _ := v.free()
	if used := total(before) - total(with); used < 29<<20 {
		t.Errorf("a file of 30 MiB took %d bytes", used)
	}
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	after, _ := v.free()
	if back := total(after) - total(with); back < 29<<20 {
		t.Errorf("its removal freed %d bytes", back)
	}
}

func TestWhatTheKernelCannotTellIsReadWhole(t *testing.T) {
	v := newVolume(t, "btrfs", 128<<20, 0)
	ranges, findings := v.free()
	if len(ranges) > 0 || len(findings) != 1 || findings[0].Mount != v.dir || !strings.Contains(findings[0].Message, "btrfs") {
		t.Errorf("got %v, %v", ranges, findings)
	}
	if err := unix.Unmount(v.dir, 0); err != nil {
		t.Fatal(err)
	}
	if ranges, findings = v.free(); len(ranges)+len(findings) > 0 {
		t.Errorf("not mounted: %v, %v", ranges, findings)
	}
}

func TestOfSwapOnlyTheHeaderIsUsed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 24<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := attach(t, blockdev.LoopOptions{File: file})
	part := attach(t, blockdev.LoopOptions{File: disk, Offset: 8 << 20})
	run(t, "mkswap", "-q", part)
	if _, err := command.Run(t.Context(), "swapon", part); err != nil {
		t.Skipf("this kernel takes no swap: %v", err)
	}
	t.Cleanup(func() { _, _ = command.Run(t.Context(), "swapoff", part) })
	ranges, findings, err := Free(t.Context(), disk)
	off, errOff := command.Run(t.Context(), "swapoff", part)
	if err != nil || errOff != nil || len(findings) > 0 || len(ranges) != 1 || ranges[0] != (Range{8<<20 + swapHeader, 16<<20 - swapHeader}) {
		t.Errorf("got %v, %v, %v (%s %v)", ranges, findings, err, off, errOff)
	}
}
