// Package space tells which ranges of a disk hold nothing that a filesystem uses, so that a sync need not read them. It
// asks the kernel that has the filesystem mounted and believes nobody else: on the disk itself a block may be in use
// before the metadata say so. What it does not understand is used. It only reads.
package space

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/agent/internal/host"
	"rehost/internal/blockdev"
)

// Range is a run of bytes of a whole disk.
type Range struct{ Offset, Length int64 }

// Finding says why something is read whole.
type Finding struct{ Mount, Message string }

const (
	// minRange is the smallest range worth to be left out; it bounds the memory for a filesystem in splinters.
	minRange = 64 << 10
	// swapHeader is what identifies a swap area: its first page.
	swapHeader = 4096
)

// Free returns the free ranges of a disk, sorted and disjoint. The caller's tracker must be at work already: then
// whatever is written to a range after the kernel called it free is marked.
func Free(ctx context.Context, disk string) ([]Range, []Finding, error) {
	size, err := blockdev.SizeBytes(disk)
	if err != nil {
		return nil, nil, err
	}
	filesystems, err := host.Filesystems([]string{disk})
	if err != nil {
		return nil, nil, fmt.Errorf("list the filesystems of %s: %w", disk, err)
	}
	var all []Range
	var findings []Finding
	for _, fs := range filesystems {
		if fs.Nested > 0 {
			continue // it lies in files of another one
		}
		free, err := ofFilesystem(ctx, disk, fs, size)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if err != nil {
			findings = append(findings, Finding{Mount: fs.Mount, Message: fmt.Sprintf("%s on %s is read whole: %v", fs.Type, fs.Mount, err)})
			continue
		}
		all = append(all, free...)
	}
	swaps, err := ofSwap(disk, size)
	if err != nil {
		findings = append(findings, Finding{Message: fmt.Sprintf("swap of %s is read whole: %v", disk, err)})
	}
	return merge(append(all, swaps...)), findings, nil
}

// Reasons for reading a filesystem whole.
var (
	errKind   = errors.New("the kernel cannot tell what is free there")
	errStacks = errors.New("it does not lie on the disk in one piece")
)

// ofFilesystem asks for one filesystem's free space. It is written out first: blocks are given to delayed writes only then,
// and those that are given must not look free.
func ofFilesystem(ctx context.Context, disk string, fs host.Filesystem, diskBytes int64) ([]Range, error) {
	if fs.Type != "ext4" && fs.Type != "xfs" {
		return nil, errKind
	}
	offset, ok := host.OffsetOn(disk, fs.Major, fs.Minor)
	if !ok {
		return nil, errStacks
	}
	size, err := deviceBytes(fs.Major, fs.Minor)
	if err != nil {
		return nil, err
	}
	if offset > diskBytes || size > diskBytes-offset {
		return nil, errStacks
	}
	dir, err := os.Open(fs.Mount)
	if err != nil {
		return nil, fmt.Errorf("open the mount point: %w", err)
	}
	defer dir.Close() //nolint:errcheck // opened for reading
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return nil, fmt.Errorf("write it out: %w", err)
	}
	c := collector{device: encodeDevice(fs.Major, fs.Minor), size: size}
	if err := fsmap(ctx, dir, &c); err != nil {
		return nil, err
	}
	for i := range c.free {
		c.free[i].Offset += offset
	}
	return c.free, nil
}

// deviceBytes returns the size of a block device.
func deviceBytes(major, minor uint32) (int64, error) {
	text, err := os.ReadFile(filepath.Join(blockdev.SysPath(major, minor), "size"))
	if err != nil {
		return 0, fmt.Errorf("look up the size of its device: %w", err)
	}
	sectors, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return sectors * 512, err
}

// ofSwap returns what active swap areas of the disk hold: nothing that a server needs after it has booted again.
func ofSwap(disk string, diskBytes int64) ([]Range, error) {
	text, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list swap areas: %w", err)
	}
	var all []Range
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[1] != "partition" {
			continue // the title, or a file, which belongs to its filesystem
		}
		major, minor, err := blockdev.DevNumber(fields[0])
		if err != nil {
			continue // in another mount namespace, or gone
		}
		offset, ok := host.OffsetOn(disk, major, minor)
		size, err := deviceBytes(major, minor)
		if !ok || err != nil || size <= swapHeader || offset > diskBytes || size > diskBytes-offset {
			continue
		}
		all = append(all, Range{Offset: offset + swapHeader, Length: size - swapHeader})
	}
	return all, nil
}

// merge sorts ranges and joins those that touch.
func merge(all []Range) []Range {
	slices.SortFunc(all, func(a, b Range) int { return int(min(max(a.Offset-b.Offset, -1), 1)) })
	var out []Range
	for _, r := range all {
		if n := len(out); n > 0 && r.Offset <= out[n-1].Offset+out[n-1].Length {
			out[n-1].Length = max(out[n-1].Length, r.Offset+r.Length-out[n-1].Offset)
			continue
		}
		out = append(out, r)
	}
	return out
}
