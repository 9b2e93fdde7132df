package stamp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
)

// Part is a part of a disk that one writer works on.
type Part struct {
	Disk   int
	Kind   string // "ext4", "xfs", "btrfs": mounted; "mkfs": filesystems are made there again and again; "raw"
	Offset int64
	Bytes  int64
	Device string // the part alone, as a loop device; of "raw" the whole disk
	Mount  string // where it is mounted
}

// Disk is a loop device on a file of the pool.
type Disk struct {
	File   string
	Device string
	Bytes  int64
	Parts  []*Part
}

const mib = 1 << 20

// busyLimit is how long a filesystem may be in use when it is no longer needed: a mount namespace that was made meanwhile,
// by other tests for one, has it mounted too, and with it the loop devices on its files.
const busyLimit = time.Minute

// layout is what the disks carry. The sizes are about the least with which each mkfs is content.
// The one for btrfs comes before anything is mounted: it takes loop devices on the same device for one.
func layout() []*Disk {
	disks := []*Disk{
		{Parts: []*Part{{Kind: "ext4", Bytes: 96 * mib}, {Kind: "raw", Bytes: 24 * mib}, {Kind: "mkfs", Bytes: 16 * mib}}},
		{Parts: []*Part{{Kind: "btrfs", Bytes: 144 * mib}, {Kind: "xfs", Bytes: 300 * mib}, {Kind: "raw", Bytes: 16 * mib}}},
	}
	for i, d := range disks {
		for _, p := range d.Parts {
			p.Disk, p.Offset = i, d.Bytes
			d.Bytes += p.Bytes
		}
	}
	return disks
}

// mkfs is how a filesystem is made without a background thread that goes on writing.
var mkfs = map[string][]string{
	"ext4":  {"mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"},
	"xfs":   {"mkfs.xfs", "-q", "-f"},
	"btrfs": {"mkfs.btrfs", "-q", "-f", "--mixed", "-m", "single", "-d", "single"},
	"mkfs":  {"mkfs.ext4", "-q", "-F"},
}

// mountImage makes a sparse file with a filesystem of its own and mounts it on dir, until the test ends.
func mountImage(tb testing.TB, file, dir, kind string, bytes int64) {
	tb.Helper()
	sparse(tb, file, bytes)
	makeAndMount(tb, attach(tb, blockdev.LoopOptions{File: file}), dir, kind)
}

func sparse(tb testing.TB, file string, bytes int64) {
	tb.Helper()
	f, err := os.Create(file)
	if err == nil {
		err = errors.Join(f.Truncate(bytes), f.Close())
	}
	if err != nil {
		tb.Fatal(err)
	}
}

func attach(tb testing.TB, o blockdev.LoopOptions) (device string) {
	tb.Helper()
	loop, err := blockdev.AttachLoop(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := loop.Detach(); err != nil {
			tb.Error(err)
		}
	})
	return loop.Path
}

func makeAndMount(tb testing.TB, device, dir, kind string) {
	tb.Helper()
	args := append(slices.Clone(mkfs[kind]), device)
	if _, err := command.Run(tb.Context(), args[0], args[1:]...); err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := unix.Mount(device, dir, kind, 0, ""); err != nil {
		tb.Fatalf("mount %s on %s: %v", device, dir, err)
	}
	tb.Cleanup(func() {
		err := unix.Unmount(dir, 0)
		for deadline := time.Now().Add(busyLimit); errors.Is(err, unix.EBUSY) && time.Now().Before(deadline); err = unix.Unmount(dir, 0) {
			<-time.After(poll)
		}
		if err != nil {
			tb.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// openDisks makes the disks in pool, which can reflink, and mounts their filesystems below dir.
func openDisks(tb testing.TB, pool, dir string) []*Disk {
	tb.Helper()
	disks := layout()
	for i, d := range disks {
		d.File = filepath.Join(pool, fmt.Sprintf("%d.disk", i))
		sparse(tb, d.File, d.Bytes)
		// Direct: what has completed is in the file's blocks, so that a reflink copy need not write anything out first.
		d.Device = attach(tb, blockdev.LoopOptions{File: d.File, DirectIO: true})
		for _, p := range d.Parts {
			p.Device = d.Device
			if p.Kind == "raw" {
				continue
			}
			p.Device = attach(tb, blockdev.LoopOptions{File: d.Device, Offset: p.Offset, SizeLimit: p.Bytes, DirectIO: true})
			if p.Kind != "mkfs" {
				p.Mount = filepath.Join(dir, p.Kind)
				makeAndMount(tb, p.Device, p.Mount, p.Kind)
			}
		}
	}
	return disks
}
