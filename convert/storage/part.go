package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"rehost/convert"
)

// part is a piece of the guest's storage: a partition, a disk without any, or what was made of others.
type part struct {
	convert.Filesystem
	disk    int    // index of its disk; that of its first member
	path    string // the disk, or the device that was made, that it is on
	device  string // its own block device; empty until it is needed
	claimed bool   // a member that is in use, or was looked at and is left alone
	options string // of the mount
	checked bool   // and usable, unless it is broken
	broken  bool
}

// add takes note of what is on a disk or on a device that was made of the given part.
func (g *Guest) add(path string, base part) error {
	found, err := read(path)
	if err != nil {
		return err
	}
	for _, s := range found {
		if len(base.Stack) > 0 {
			s.Partition, s.PartUUID, s.PartLabel = base.Partition, "", ""
		}
		s.Stack = slices.Clone(base.Stack)
		p := part{Filesystem: s, disk: base.disk, path: path}
		if len(base.Stack) > 0 && s.Offset == 0 {
			p.device = path
		}
		g.parts = append(g.parts, &p)
	}
	return nil
}

func read(path string) ([]convert.Filesystem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	return convert.ReadDisk(f, size)
}

// block gives a part a block device: the kernel's own for the partition, or else a loop device.
func (g *Guest) block(ctx context.Context, p *part) error {
	if p.device != "" {
		return nil
	}
	n := p.Partition
	if len(p.Stack) > 0 {
		n = -1 // a partition on LVM or RAID: the kernel's name for it is nothing that we know
	}
	if p.device = waitPartition(ctx, p.path, n); p.device != "" {
		return nil
	}
	if err := g.opt.Load("loop"); err != nil {
		return fmt.Errorf("load the loop driver: %w", err)
	}
	f, err := loop(p.path, p.Offset, p.Size)
	if err != nil {
		return err
	}
	g.undo = append(g.undo, f.Close) // it goes away when closed and unmounted
	p.device = f.Name()
	return nil
}

// partitionWait is how long the kernel may take to read the partition table of a
// disk that was attached just now. One without such support never does.
const partitionWait = time.Second

// waitPartition is partition with some patience for block devices.
func waitPartition(ctx context.Context, disk string, n int) string {
	info, err := os.Stat(disk)
	if err != nil || info.Mode()&os.ModeDevice == 0 || n < 0 {
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

// waitDevice waits until a device that was made just now has its node.
func waitDevice(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, partitionWait)
	defer cancel()
	for {
		_, err := os.Stat(path)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a device: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}
