package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rehost/agent/internal/track"
	"rehost/internal/blockdev"
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
