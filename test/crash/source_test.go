package crash

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/agent"
	"rehost/internal/blockdev"
	"rehost/internal/bus"
	"rehost/internal/jsonfile"
)

const (
	diskBytes  = 16 << 20
	blockBytes = 4 << 10
)

// source is a server with two disks and something that writes to them, which the hooks of its agent stop and let go.
type source struct {
	name  string
	dir   string
	disks []string
	agent *part
	wrote atomic.Int64 // blocks
}

// The hooks return when the writer has heard of it.
const (
	fenceHook   = `touch "$0/stop"; until [ -e "$0/stopped" ]; do sleep 0.05; done`
	unfenceHook = `rm -f "$0/stop"; while [ -e "$0/stopped" ]; do sleep 0.05; done`
)

// newSource makes the disks and starts the writer and the agent.
func newSource(w *world, name string, identity bus.Identity) *source {
	w.t.Helper()
	s := &source{name: name, dir: filepath.Join(w.dir, name)}
	hook := func(script string) []string { return []string{"/bin/sh", "-c", script, s.dir} }
	cfg := agent.Config{
		Server: name, Bus: w.bus, StateDir: filepath.Join(s.dir, "state"), RunDir: filepath.Join(s.dir, "run"), PinDir: filepath.Join(s.dir, "pins"),
		Hooks: agent.Hooks{Fence: hook(fenceHook), Unfence: hook(unfenceHook)}, FreeSpace: agent.FreeSpaceCopy,
	}
	if err := errors.Join(os.MkdirAll(cfg.StateDir, 0o700), bus.SaveIdentity(filepath.Join(cfg.StateDir, "identity.json"), identity)); err != nil {
		w.t.Fatal(err)
	}
	for _, disk := range []string{"a", "b"} {
		s.disks = append(s.disks, attach(w.t, filepath.Join(s.dir, disk+".disk")))
	}
	cfg.Disks = s.disks
	s.startWriter(w.t)
	w.t.Cleanup(func() { // when the agent has ended
		if err := unix.Unmount(cfg.PinDir, 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			w.t.Error(err)
		}
	})
	config := filepath.Join(s.dir, "agent.json")
	if err := jsonfile.Write(config, cfg); err != nil {
		w.t.Fatal(err)
	}
	s.agent = startPart(w.t, role(w.t, "agent", config))
	return s
}

// attach makes a disk with a boot record, whose program stops: a target is to cost no processor.
func attach(t *testing.T, path string) (device string) {
	t.Helper()
	record := make([]byte, 512)
	copy(record, []byte{0xfa, 0xf4, 0xeb, 0xfd}) // cli, hlt, and once more
	record[510], record[511] = 0x55, 0xaa
	if err := errors.Join(os.WriteFile(path, record, 0o600), os.Truncate(path, diskBytes)); err != nil {
		t.Fatal(err)
	}
	return attachLoop(t, blockdev.LoopOptions{File: path})
}

// startWriter writes to both disks until the test ends, but not while it is told to stop.
func (s *source) startWriter(t *testing.T) {
	t.Helper()
	var files []*os.File
	for _, disk := range s.disks {
		f, err := os.OpenFile(disk, os.O_WRONLY|unix.O_DSYNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := s.step(files); err != nil {
				t.Errorf("the writer of %s: %v", s.name, err)
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, f := range files {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// step writes one block to each disk, or says that it does not.
func (s *source) step(files []*os.File) error {
	defer time.Sleep(10 * time.Millisecond)
	stopped := filepath.Join(s.dir, "stopped")
	if _, err := os.Stat(filepath.Join(s.dir, "stop")); err == nil {
		return os.WriteFile(stopped, nil, 0o600)
	}
	if err := os.Remove(stopped); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	block := make([]byte, blockBytes)
	for _, f := range files {
		for i := range block {
			block[i] = byte(rand.Uint32())
		}
		if _, err := f.WriteAt(block, blockBytes*(1+rand.Int64N(diskBytes/blockBytes-1))); err != nil {
			return err
		}
		s.wrote.Add(1)
	}
	return nil
}

// sum is the digest of what a disk, or a volume that is larger than one, holds.
func sum(t *testing.T, path string) [sha256.Size]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	b := make([]byte, diskBytes)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}
