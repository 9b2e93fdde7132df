package pipeline

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rehost/agent"
	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/protocol"
)

// sums reads every file below a folder.
func sums(t *testing.T, dir string) map[string][32]byte {
	t.Helper()
	all := map[string][32]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path[len(dir):]] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The disk is full of what was deleted, and while the sync begins files are written into that space whose blocks no
// journal has committed yet. Leaving free space out must not leave these out.
func TestFilesWrittenIntoFreeSpaceDuringTheSyncArrive(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const size = 192 << 20
	rng := rngOf(t)
	w := newWorld(t, size)
	disk := mountDisk(t, filepath.Join(w.dir, "real"), size)
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for i := range 120 {
		if err := os.WriteFile(filepath.Join(disk.dir, fmt.Sprintf("old%d", i)), noise, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	unix.Sync()
	for i := range 100 {
		if err := os.Remove(filepath.Join(disk.dir, fmt.Sprintf("old%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	frozen := filepath.Join(w.dir, "frozen")
	w.startReplica()
	var writers sync.WaitGroup
	begin := make(chan struct{})
	writers.Go(func() { // through the begin of the sync, in bursts that mostly nobody syncs
		rng := rand.New(rand.NewPCG(rng.Uint64(), 7))
		close(begin)
		for i := range 400 {
			b := bytes.Repeat([]byte{byte(rng.Uint32()), byte(i)}, 1+rng.IntN(60<<10))
			f, err := os.OpenFile(filepath.Join(disk.dir, fmt.Sprintf("new%d", i%80)), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
			if err == nil {
				_, err = f.Write(b)
				if i%9 == 0 {
					err = errors.Join(err, f.Sync())
				}
				err = errors.Join(err, f.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	<-begin
	w.startHostAgent(func(c *agent.Config) {
		c.Disks, c.PinDir = []string{disk.device}, filepath.Join(t.TempDir(), "pins")
		t.Cleanup(func() { _ = unix.Unmount(c.PinDir, 0) })
		c.FrozenHook = []string{"/bin/sh", "-c", `exec cp --sparse=always "$0" "$1.$2"`, disk.file, frozen}
	})
	w.awaitContinuous()
	writers.Wait()
	w.mu.Lock()
	free := w.agent.Disks[0].Free
	w.mu.Unlock()
	if free < 30<<20 {
		t.Errorf("%d MiB were left out, want much", free>>20)
	}
	taken := false
	w.after = func(id string) {
		want := mountedSums(t, frozen+"."+id)
		got := mountedSums(t, w.volumePath(0))
		if len(want) < 100 || len(got) != len(want) {
			t.Errorf("%d files on the replica, %d on the source", len(got), len(want))
		}
		for path, sum := range want {
			if got[path] != sum {
				t.Errorf("%s is not what it was", path)
			}
		}
		taken = true
	}
	for i := range 3 {
		if !taken && w.takePointOf(fmt.Sprintf("p%d", i), func(string, [][]byte) {}) {
			break
		}
	}
	if !taken {
		t.Error("no point")
	}
	w.mu.Lock()
	w.wanted = protocol.WantDisconnect
	w.mu.Unlock()
}

// mountedSums mounts a copy of a disk and reads every file.
func mountedSums(t *testing.T, disk string) map[string][32]byte {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "copy")
	if _, err := command.Run(t.Context(), "cp", "--sparse=always", disk, copied); err != nil {
		t.Fatal(err)
	}
	loop, err := blockdev.AttachLoop(t.Context(), blockdev.LoopOptions{File: copied})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount(loop.Path, dir, "ext4", 0, ""); err != nil {
		t.Fatal(errors.Join(err, loop.Detach()))
	}
	all := sums(t, dir)
	if err := errors.Join(unix.Unmount(dir, 0), loop.Detach(), os.Remove(copied)); err != nil {
		t.Fatal(err)
	}
	return all
}
