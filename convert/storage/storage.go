// Package storage finds and mounts a guest's filesystems from its disks: it
// assembles RAID1, opens LUKS, activates LVM, repairs filesystems where their own
// tools can do so without a question, and takes all down again. A disk is a block
// device or a raw image file. What is on the disks is taken to be hostile. The
// package never changes a file of the guest, and decides nothing about its files. Scripts of the guest's owner run
// between its steps, by a runner that it is given.
package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rehost/convert"
	"rehost/convert/script"
	"rehost/protocol"
)

// mountFlags: nothing of a guest runs, and its device files open nothing.
const mountFlags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME

// unlockLimit is how long opening one LUKS device may take. An honest one takes seconds, ten times that on an emulated processor.
const unlockLimit = 2 * time.Minute

// Device is one disk. The boot disk comes first, the others in the source's order.
type Device struct {
	Volume string
	Boot   bool
	Path   string // block device or raw image file
}

// Options are what the surroundings provide.
type Options struct {
	Progress   func(string)            // one line for people; may be nil
	Load       func(name string) error // loads a kernel module by name; nil: the kernel has what it needs
	Program    func(name string) error // makes a program available; nil: it is installed
	Passphrase string                  // opens LUKS devices; empty: they stay closed
	All        bool                    // mount all that the guest mounts at each boot
	// Script runs a script of the server's owner; nil: here, none runs.
	Script func(context.Context, script.Order) (protocol.ScriptRun, error)
}

// Guest is a mounted guest.
type Guest struct {
	Root       *convert.Root
	Disks      []convert.Disk
	RootDevice string
	RootUUID   string
	// Findings are what was seen on the way. Critical ones come with an error of Mount.
	Findings []protocol.Finding

	dir       string
	parts     []*part
	skipped   []int // of Findings: what was left alone
	mounts    []mounted
	undo      []func() error // what was made of the disks, the last one first
	assembled int            // arrays
	opt       Options
	paths     []string
}

// mounted is a filesystem in its place.
type mounted struct {
	path string
	made bool // the folder was not there, and goes again
}

// Mount assembles the guest. After an error nothing is left mounted; the guest's findings say why.
func Mount(ctx context.Context, devices []Device, opt Options) (*Guest, error) {
	nothing := func(string) error { return nil }
	if opt.Progress == nil {
		opt.Progress = func(string) {}
	}
	if opt.Load == nil {
		opt.Load = nothing
	}
	if opt.Program == nil {
		opt.Program = nothing
	}
	dir, err := os.MkdirTemp("", "rehost-guest-")
	if err != nil {
		return nil, fmt.Errorf("create a mount point: %w", err)
	}
	g := &Guest{dir: dir, opt: opt}
	if err := g.mountAll(ctx, devices); err != nil {
		var r *refusal
		if errors.As(err, &r) {
			g.Findings = append(g.Findings, r.finding)
			if problem := convert.Refusal(g.Findings); problem != nil {
				err = problem
			}
		}
		return g, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Guest) mountAll(ctx context.Context, devices []Device) error {
	if err := g.assemble(ctx, devices); err != nil {
		return err
	}
	root, err := g.findRoot(ctx)
	if err != nil {
		return err
	}
	if err := g.mountRoot(root); err != nil {
		return err
	}
	if err := g.nameEncrypted(); err != nil {
		return err
	}
	if err := g.mountRest(ctx); err != nil {
		return err
	}
	g.list()
	return nil
}

// list puts what was found into Disks.
func (g *Guest) list() {
	for i := range g.Disks {
		g.Disks[i].Filesystems = nil
	}
	for _, p := range g.parts {
		d := &g.Disks[p.disk]
		d.Filesystems = append(d.Filesystems, p.Filesystem)
	}
}

// places are where something is mounted, the root first.
func (g *Guest) places() []string {
	var out []string
	for _, m := range g.mounts {
		out = append(out, m.path)
	}
	return out
}

// Close unmounts everything, takes down what was made, and writes what is left to the disks.
func (g *Guest) Close() error {
	var err error
	if g.Root != nil {
		err = g.Root.Close()
		g.Root = nil
	}
	for len(g.mounts) > 0 {
		last := g.mounts[len(g.mounts)-1]
		if e := unix.Unmount(last.path, unix.UMOUNT_NOFOLLOW); e != nil {
			return errors.Join(err, fmt.Errorf("unmount %s: %w", last.path, e))
		}
		if last.made {
			err = errors.Join(err, unix.Rmdir(last.path))
		}
		g.mounts = g.mounts[:len(g.mounts)-1]
	}
	for _, undo := range slices.Backward(g.undo) {
		err = errors.Join(err, undo())
	}
	g.undo = nil
	for _, p := range g.paths {
		err = errors.Join(err, flush(p))
	}
	g.paths = nil
	if g.dir != "" {
		err = errors.Join(err, os.Remove(g.dir))
		g.dir = ""
	}
	return err
}

func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}
