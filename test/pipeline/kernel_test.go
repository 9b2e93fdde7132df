package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/agent"
	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/protocol"
)

// TestMain lets the agent start its freeze helper from this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "freeze-helper" {
		if err := agent.FreezeHelper(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// mounted is an ext4 on a loop device, which is the whole disk.
type mounted struct {
	file, device, dir string
}

func mountDisk(t *testing.T, file string, size int64) mounted {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	loop, err := blockdev.AttachLoop(t.Context(), blockdev.LoopOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := loop.Detach(); err != nil {
			t.Error(err)
		}
	})
	if _, err := command.Run(t.Context(), "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", loop.Path); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount(loop.Path, dir, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return mounted{file: file, device: loop.Path, dir: dir}
}

// churnFiles creates, overwrites, syncs and removes files until the returned function is called.
func churnFiles(t *testing.T, dir string, rng *rand.Rand) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64<<10)
		for ctx.Err() == nil {
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			path := filepath.Join(dir, fmt.Sprintf("file%d", rng.IntN(60)))
			f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := f.WriteAt(b[:1+rng.IntN(len(b)-1)], rng.Int64N(200<<10)); err != nil {
				t.Error(err)
			}
			if rng.IntN(4) == 0 {
				if err := f.Sync(); err != nil {
					t.Error(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if rng.IntN(10) == 0 {
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}

func TestPointsOfAMountedFilesystemEqualTheFrozenDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const size = 96 << 20
	rng := rngOf(t)
	w := newWorld(t, size)
	disk := mountDisk(t, filepath.Join(w.dir, "real"), size)
	frozen := filepath.Join(w.dir, "frozen")
	w.startReplica()
	pins := filepath.Join(t.TempDir(), "pins") // the agent mounts a bpffs there
	t.Cleanup(func() {
		if err := unix.Unmount(pins, 0); err != nil && !errors.Is(err, unix.EINVAL) { // not mounted any more
			t.Error(err)
		}
	})
	start := func() *process {
		return w.startHostAgent(func(c *agent.Config) {
			c.Disks, c.PinDir = []string{disk.device}, pins
			c.StateDir = filepath.Join(disk.dir, "state")                                                                      // so that the tracker's self-test has a place
			c.FreeSpace = agent.FreeSpaceCopy                                                                                  // files are removed before the sync begins, and whole disks are compared
			c.FrozenHook = []string{"/bin/sh", "-c", `exec cp --reflink=auto --sparse=always "$0" "$1.$2"`, disk.file, frozen} // and the point's id
		})
	}
	a := start()
	stop := churnFiles(t, disk.dir, rand.New(rand.NewPCG(rng.Uint64(), 2)))
	defer stop()
	w.awaitContinuous()
	w.after = func(id string) {
		want, err := os.ReadFile(frozen + "." + id)
		if err != nil {
			t.Fatal(err)
		}
		w.compare(id, [][]byte{want})
	}
	good := 0
	for i := range 6 {
		if i == 3 { // the tracker goes on while no agent runs
			if err := a.stop(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
			a = start()
		}
		if w.takePoint(fmt.Sprintf("p%d", i)) {
			good++
		}
	}
	if good < 5 {
		t.Errorf("%d of 6 points succeeded, want 5", good)
	}
	w.mu.Lock()
	if w.agent.Replication != protocol.ReplicationContinuous {
		t.Errorf("state %s", w.agent.Replication)
	}
	w.wanted = protocol.WantDisconnect
	w.mu.Unlock()
	<-a.done
	if a.err != nil {
		t.Fatal(a.err)
	}
	for _, path := range []string{filepath.Join(pins, serverName), filepath.Join(w.dir, "run", serverName)} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there after the disconnection", path)
		}
	}
}
