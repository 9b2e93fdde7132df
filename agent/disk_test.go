package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rehost/agent/internal/track"
	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/internal/hint"
)

func TestADiskThatShrinksOrGoesAwayIsNoticed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	loop, err := blockdev.AttachLoop(t.Context(), blockdev.LoopOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = loop.Detach() })
	d, err := track.FindDisk(loop.Path)
	if err != nil {
		t.Fatal(err)
	}
	id := identity(d)
	check := func() error { return checkTracked([]track.Disk{d}, []string{id}) }
	if err := check(); err != nil {
		t.Fatal(err)
	}
	if err := checkTracked([]track.Disk{d}, []string{"another"}); err == nil || !strings.Contains(err.Error(), "another disk has become "+loop.Path) {
		t.Errorf("another disk under the same number: %v", err)
	}
	if err := os.Truncate(file, 4<<20); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(loop.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := unix.IoctlRetInt(int(f.Fd()), unix.LOOP_SET_CAPACITY); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := check(); err == nil || !strings.Contains(err.Error(), "4194304 bytes now, and 8388608") || hint.Of(err) == "" {
		t.Errorf("a disk that shrank: %v", err)
	}
	if err := loop.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := check(); err == nil || hint.Of(err) == "" {
		t.Errorf("a disk that went away: %v", err)
	}
}

// The self-test is worth something only if the place that it names is where the file's bytes are.
func TestTheScratchFileLiesWhereItSays(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	attach := func(o blockdev.LoopOptions) string {
		l, err := blockdev.AttachLoop(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Detach() })
		return l.Path
	}
	disk := attach(blockdev.LoopOptions{File: file})
	part := attach(blockdev.LoopOptions{File: disk, Offset: 3 << 20})
	if _, err := command.Run(t.Context(), "mkfs.ext4", "-q", "-F", part); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount(part, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) })
	s := scratch{path: filepath.Join(dir, "state", "scratch"), disks: []string{"/dev/null", disk}}
	for range 3 {
		place, err := s.write()
		if err != nil || place.Disk != 1 || place.Length != scratchBytes {
			t.Fatalf("got %+v, %v", place, err)
		}
		want, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		d, err := blockdev.Open(disk, os.O_RDONLY|unix.O_DIRECT)
		if err != nil {
			t.Fatal(err)
		}
		got, err := blockdev.AlignedBuffer(scratchBytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.ReadAt(got, place.Offset); err != nil || !bytes.Equal(got, want) {
			t.Errorf("at %d of the disk there is something else (%v)", place.Offset, err)
		}
		if err := errors.Join(d.Close(), blockdev.FreeBuffer(got)); err != nil {
			t.Fatal(err)
		}
	}
	other := scratch{path: filepath.Join(t.TempDir(), "scratch"), disks: []string{disk}}
	if _, err := other.write(); !errors.Is(err, errNoScratch) {
		t.Errorf("a state folder on another disk: %v", err)
	}
}
