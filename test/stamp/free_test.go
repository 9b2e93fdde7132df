package stamp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
)

// written remembers what files hold, by the path within their filesystem.
type written struct {
	rng   *rand.Rand
	files map[*Part]map[string][]byte
}

// add writes a new file and gives its blocks to the disk at once, while the journal keeps for itself that they are taken:
// nothing is synced.
func (f *written) add(p *Part) error {
	b := make([]byte, (1+f.rng.IntN(32))*4096)
	Stamp{Seed: f.rng.Uint64(), Disk: uint32(p.Disk), File: uint32(len(f.files[p]))}.Fill(b)
	name := fmt.Sprintf("taken%d", len(f.files[p]))
	o, err := os.Create(filepath.Join(p.Mount, name))
	if err != nil {
		return err
	}
	_, err = o.Write(b)
	if err == nil && f.rng.IntN(2) == 0 {
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		err = unix.SyncFileRange(int(o.Fd()), 0, 0, all)
	}
	f.files[p][name] = b
	return errors.Join(err, o.Close())
}

// litter fills most of a filesystem with garbage and removes it, so that what is free is not zero.
func litter(p *Part) error {
	var st unix.Statfs_t
	if err := unix.Statfs(p.Mount, &st); err != nil {
		return err
	}
	path := filepath.Join(p.Mount, "litter")
	garbage := bytes.Repeat([]byte("litter: this is not what you look for "), 1<<14)
	o, err := os.Create(path)
	if err != nil {
		return err
	}
	for n := int64(st.Bavail) * st.Bsize * 8 / 10; n > 0 && err == nil; n -= int64(len(garbage)) {
		_, err = o.Write(garbage)
	}
	err = errors.Join(err, o.Sync(), os.Remove(path))
	return errors.Join(err, unix.Syncfs(int(o.Fd())), o.Close())
}

// What is free when the sync begins is left out; what is written there meanwhile is not.
func TestFreeSpaceThatIsTakenDuringTheSync(t *testing.T) {
	seed := setting(t, "REHOST_SEED", uint64(time.Now().UnixNano()))
	t.Logf("seed %d", seed)
	f := &written{rng: rand.New(rand.NewPCG(seed, 1)), files: map[*Part]map[string][]byte{}}
	var parts []*Part
	w := New(t, Options{Seed: seed, SkipFree: true, Before: func(w *World) {
		for _, d := range w.Disks {
			for _, p := range d.Parts {
				if p.Mount == "" {
					continue
				}
				parts = append(parts, p)
				f.files[p] = map[string][]byte{}
				if err := litter(p); err != nil {
					t.Fatalf("%s: %v", p.Kind, err)
				}
			}
		}
		for range 20 {
			for _, p := range parts {
				if err := f.add(p); err != nil {
					t.Fatal(err)
				}
			}
		}
	}})
	start := time.Now()
	for deadline := start.Add(time.Minute); w.Source().Replication != "CONTINUOUS" || time.Since(start) < 3*time.Second; {
		for _, p := range parts {
			if len(f.files[p]) < 200 {
				if err := f.add(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(10 * time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatalf("not CONTINUOUS: %+v", w.Source())
		}
	}
	for _, d := range w.Source().Disks {
		if d.Free == 0 {
			t.Errorf("nothing of %s was left out", d.Name)
		}
		t.Logf("%s: %d of %d MiB left out", d.Name, d.Free>>20, d.SizeBytes>>20)
	}
	w.Check = func(string) { w.checkFiles(f) }
	for i := range 5 {
		ok, why := w.Point(fmt.Sprintf("p%d", i))
		if ok {
			return
		}
		t.Log(why)
	}
	t.Fatal("no point in 5 tries")
}

// checkFiles mounts a copy of each filesystem of the replica and compares all its files.
func (w *World) checkFiles(f *written) {
	w.TB.Helper()
	for p, files := range f.files {
		replica := filepath.Join(w.pool, p.Kind+".replica")
		if _, err := command.Run(w.TB.Context(), "cp", "--sparse=always", w.VolumePath(p.Disk), replica); err != nil {
			w.TB.Fatal(err)
		}
		device := attach(w.TB, blockdev.LoopOptions{File: replica, Offset: p.Offset, SizeLimit: p.Bytes})
		// The source has the same filesystem mounted, with the same id.
		flags := map[string]string{"xfs": "nouuid"}[p.Kind]
		dir := w.TB.TempDir()
		if p.Kind == "btrfs" {
			if _, err := command.Run(w.TB.Context(), "btrfstune", "-f", "-u", device); err != nil {
				w.TB.Fatal(err)
			}
		}
		if err := unix.Mount(device, dir, p.Kind, 0, flags); err != nil {
			w.TB.Fatalf("mount the replica's %s: %v", p.Kind, err)
		}
		bad := 0
		for name, want := range files {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, want) {
				bad++
				w.TB.Errorf("%s on %s: %v; the replica holds: %s", name, p.Kind, err, Describe(append(got, make([]byte, Sector)...)[:Sector]))
			}
		}
		w.TB.Logf("%s: %d of %d files are right", p.Kind, len(files)-bad, len(files))
		if err := unix.Unmount(dir, 0); err != nil {
			w.TB.Error(err)
		}
	}
}
