// Package storage finds and mounts a guest's filesystems from its disks, repairs
// them first where their own tools can do so without a question, and takes all
// down again. A disk is a block device or a raw image file. The package never
// changes a file of the guest.
package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rehost/convert"
	"rehost/internal/command"
	"rehost/protocol"
)

// mountFlags: nothing of a guest runs, and its device files open nothing.
const mountFlags = unix.MS_NODEV | unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NOATIME

// Device is one disk. The boot disk comes first, the others in the source's order.
type Device struct {
	Volume string
	Boot   bool
	Path   string // block device or raw image file
}

// Options are what the surroundings provide.
type Options struct {
	Progress func(string)            // one line for people; may be nil
	Load     func(name string) error // loads a kernel module by name; nil: the kernel has what it needs
}

// Guest is a mounted guest.
type Guest struct {
	Root       *convert.Root
	Disks      []convert.Disk
	RootDevice string
	RootUUID   string

	dir    string
	opened []*os.File // loop devices: they go away when closed and unmounted
	mounts []string
	opt    Options
	paths  []string
}

// Mount assembles the guest. After an error nothing is left mounted.
func Mount(ctx context.Context, devices []Device, opt Options) (*Guest, error) {
	if opt.Progress == nil {
		opt.Progress = func(string) {}
	}
	if opt.Load == nil {
		opt.Load = func(string) error { return nil }
	}
	dir, err := os.MkdirTemp("", "rehost-guest-")
	if err != nil {
		return nil, fmt.Errorf("create a mount point: %w", err)
	}
	g := &Guest{dir: dir, opt: opt}
	if err := g.assemble(ctx, devices); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// Close unmounts everything and writes what is left to the disks.
func (g *Guest) Close() error {
	var err error
	if g.Root != nil {
		err = g.Root.Close()
		g.Root = nil
	}
	for len(g.mounts) > 0 {
		last := g.mounts[len(g.mounts)-1]
		if e := unix.Unmount(last, unix.UMOUNT_NOFOLLOW); e != nil {
			return errors.Join(err, fmt.Errorf("unmount %s: %w", last, e))
		}
		g.mounts = g.mounts[:len(g.mounts)-1]
	}
	for _, f := range g.opened {
		err = errors.Join(err, f.Close())
	}
	g.opened = nil
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

// at is a filesystem of the guest with the device that shows it.
type at struct {
	convert.Filesystem
	disk   string
	device string
}

func (g *Guest) assemble(ctx context.Context, devices []Device) error {
	var all []at
	for _, d := range devices {
		g.paths = append(g.paths, d.Path)
		found, err := read(d.Path)
		if err != nil {
			return fmt.Errorf("read the disk of volume %s: %w", d.Volume, err)
		}
		g.Disks = append(g.Disks, convert.Disk{Volume: d.Volume, Boot: d.Boot, Filesystems: found})
		for _, s := range found {
			all = append(all, at{Filesystem: s, disk: d.Path})
		}
	}
	if err := g.mountRoot(ctx, all); err != nil {
		return err
	}
	return g.mountRest(ctx, all)
}

func read(path string) ([]convert.Filesystem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, 2)
	if err != nil {
		return nil, err
	}
	return convert.ReadDisk(f, size)
}

// mountRoot finds the one filesystem that is a root by what is in it.
func (g *Guest) mountRoot(ctx context.Context, all []at) error {
	var roots []at
	var kinds []string
	for _, a := range all {
		if a.Type != "" && a.Type != "swap" {
			kinds = append(kinds, a.Type)
		}
		if !slices.Contains(convert.RootTypes, a.Type) {
			continue
		}
		a, err := g.prepare(ctx, a)
		if err != nil {
			return err
		}
		is, err := g.isRoot(a)
		if err != nil {
			return err
		}
		if is {
			roots = append(roots, a)
		}
	}
	switch {
	case len(roots) == 0:
		return problem("check which disks are replicated; LVM, RAID and encrypted roots cannot be converted yet",
			"no root filesystem was found on %d disks (they have: %s)", len(g.Disks), strings.Join(kinds, ", "))
	case len(roots) > 1:
		return problem("leave the disk of the other system out of the replication",
			"two root filesystems were found: UUID %s and UUID %s", roots[0].UUID, roots[1].UUID)
	}
	root := roots[0]
	if err := g.mount(root, g.dir); err != nil {
		return err
	}
	g.RootDevice, g.RootUUID = root.device, root.UUID
	g.mountedAt(root, "/")
	var err error
	g.Root, err = convert.Open(g.dir)
	g.opt.Progress(fmt.Sprintf("root is %s, %s, UUID %s", root.device, root.Type, root.UUID))
	return err
}

// isRoot looks into a filesystem without writing to it.
func (g *Guest) isRoot(a at) (bool, error) {
	if err := unix.Mount(a.device, g.dir, a.Type, mountFlags|unix.MS_RDONLY, ""); err != nil {
		return false, problem("check the filesystem on the source", "mount %s (%s) of the guest: %v", a.device, a.Type, err)
	}
	defer func() { _ = unix.Unmount(g.dir, unix.UMOUNT_NOFOLLOW) }()
	r, err := convert.Open(g.dir)
	if err != nil {
		return false, err
	}
	defer func() { _ = r.Close() }()
	return convert.IsRoot(r), nil
}

// mountRest mounts what fstab wants below the root and the conversion looks at.
func (g *Guest) mountRest(ctx context.Context, all []at) error {
	table, err := g.Root.ReadFile("/etc/fstab", 1<<20)
	if err != nil {
		return fmt.Errorf("read the guest's fstab: %w", err)
	}
	for _, m := range convert.MountPoints(string(table), g.Disks) {
		if m.Filesystem.UUID == g.RootUUID {
			continue
		}
		i := slices.IndexFunc(all, func(a at) bool { return a.UUID == m.Filesystem.UUID && a.Offset == m.Filesystem.Offset })
		a, err := g.prepare(ctx, all[i])
		if err != nil {
			return err
		}
		point, err := g.Root.Handle(m.Path)
		if err != nil {
			return fmt.Errorf("mount %s of the guest: %w", m.Path, err)
		}
		// Through the handle, so that no link of the guest can move the mount.
		err = g.mount(a, fmt.Sprintf("/proc/self/fd/%d", point.Fd()))
		if err == nil {
			// To be unmounted by its name: the handle is closed by then.
			resolved, e := g.Root.Resolve(m.Path)
			g.mounts[len(g.mounts)-1], err = filepath.Join(g.dir, resolved), e
		}
		_ = point.Close()
		if err != nil {
			return err
		}
		g.mountedAt(a, m.Path)
		g.opt.Progress(fmt.Sprintf("%s is %s, %s", m.Path, a.device, a.Type))
	}
	return nil
}

// mountedAt takes note of where the guest mounts a filesystem.
func (g *Guest) mountedAt(a at, path string) {
	for _, d := range g.Disks {
		for i, s := range d.Filesystems {
			if s.UUID == a.UUID && s.Offset == a.Offset && s.Mount == "" {
				d.Filesystems[i].Mount = path
			}
		}
	}
}

func (g *Guest) mount(a at, path string) error {
	if err := unix.Mount(a.device, path, a.Type, mountFlags, ""); err != nil {
		return problem("check the filesystem on the source", "mount %s (%s) of the guest: %v", a.device, a.Type, err)
	}
	g.mounts = append(g.mounts, path)
	return nil
}

// prepare gives a filesystem a device, its driver, and a check.
func (g *Guest) prepare(ctx context.Context, a at) (at, error) {
	if err := g.opt.Load(module(a.Type)); err != nil {
		return a, fmt.Errorf("load the driver of %s: %w", a.Type, err)
	}
	if a.device = waitPartition(ctx, a.disk, a.Partition); a.device == "" {
		if err := g.opt.Load("loop"); err != nil {
			return a, fmt.Errorf("load the loop driver: %w", err)
		}
		f, err := loop(a.disk, a.Offset, a.Size)
		if err != nil {
			return a, err
		}
		g.opened = append(g.opened, f)
		a.device = f.Name()
	}
	if !strings.HasPrefix(a.Type, "ext") {
		return a, nil // the others replay their log when they are mounted
	}
	start := time.Now()
	out, err := command.Run(ctx, "e2fsck", "-p", a.device)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() <= 2 {
		err = nil // it repaired something: that is what it is for
	}
	if err != nil {
		return a, problem("run e2fsck on the source's filesystem in a maintenance window, then take a new point",
			"the filesystem with UUID %s needs a repair that only a person may decide: %s", a.UUID, lastLine(out))
	}
	g.opt.Progress(fmt.Sprintf("checked %s in %.1f s: %s", a.device, time.Since(start).Seconds(), lastLine(out)))
	return a, nil
}

func module(kind string) string {
	switch kind {
	case "ext2", "ext3":
		return "ext4"
	}
	return kind
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// partitionWait is how long the kernel may take to read the partition table of a
// disk that was attached just now. One without such support never does.
const partitionWait = time.Second

// waitPartition is partition with some patience for block devices.
func waitPartition(ctx context.Context, disk string, n int) string {
	info, err := os.Stat(disk)
	if err != nil || info.Mode()&os.ModeDevice == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, partitionWait)
	defer cancel()
	for {
		if device := partition(disk, n); device != "" {
			return device
		}
		select {
		case <-ctx.Done():
			return ""
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// partition returns the kernel's device for a partition; empty when it has none.
func partition(disk string, n int) string {
	if n == 0 {
		return disk
	}
	name := fmt.Sprintf("%s%d", disk, n)
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
		name = fmt.Sprintf("%sp%d", disk, n)
	}
	if _, err := os.Stat(name); err != nil {
		return ""
	}
	return name
}

func problem(hint, format string, args ...any) error {
	return &protocol.Problem{Code: protocol.ProblemConversion, Message: fmt.Sprintf(format, args...), Hint: hint, Step: "convert"}
}
