// Package host tells what the agent must know about the source server: its facts, whether its disks can be replicated,
// and which filesystems sit on them. It only reads; it changes nothing on the host.
package host

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
)

// maxDepth bounds how many devices may be stacked on each other.
const maxDepth = 16

// Filesystem is a mounted filesystem with data on one of the disks.
type Filesystem struct {
	// Mount is a mount point that can be reached from this process, if need be through /proc/PID/root.
	Mount  string
	Type   string
	Source string
	// Major and Minor are its device as in mountinfo; a btrfs has major 0.
	Major, Minor uint32
	ReadOnly     bool
	// Nested is the number of filesystems on whose files it rests, through loop devices.
	Nested int
	// order is its place in the order of mounting; later ones are higher.
	order int
}

// Filesystems returns the mounted filesystems of all mount namespaces that have data on these whole disks, one entry per
// superblock, in the order in which they must be frozen: those that rest on files of others first, then the reverse of
// the order in which they were mounted, the root last.
func Filesystems(disks []string) ([]Filesystem, error) {
	r := &resolver{disks: map[device]bool{}, known: map[device]place{}}
	for _, path := range disks {
		major, minor, err := blockdev.DevNumber(path)
		if err != nil {
			return nil, err
		}
		r.disks[device{major, minor}] = true
	}
	mounts, err := allMounts()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		if m.device.major == 0 {
			r.anonymous = append(r.anonymous, m)
		}
	}
	var all []Filesystem
	seen := map[device]bool{}
	for _, m := range mounts {
		if seen[m.device] {
			continue
		}
		p := r.place(m.block(), 0)
		if !p.on {
			continue
		}
		seen[m.device] = true
		all = append(all, Filesystem{
			Mount: m.path, Type: m.kind, Source: m.source, Major: m.device.major, Minor: m.device.minor,
			ReadOnly: m.readOnly, Nested: p.nested, order: m.order,
		})
	}
	sortToFreeze(all)
	return all, nil
}

// sortToFreeze puts the filesystems in the order of freezing.
func sortToFreeze(all []Filesystem) {
	slices.SortStableFunc(all, func(a, b Filesystem) int {
		return cmp.Or(-cmp.Compare(a.Nested, b.Nested), cmp.Compare(isRoot(a), isRoot(b)), -cmp.Compare(a.order, b.order))
	})
}

func isRoot(f Filesystem) int {
	if f.Mount == "/" {
		return 1
	}
	return 0
}

// device is a block device's number.
type device struct{ major, minor uint32 }

// place tells whether a device has its data on one of the disks, and through how many filesystems.
type place struct {
	on     bool
	nested int
}

// resolver follows devices down to the disks.
type resolver struct {
	disks     map[device]bool
	known     map[device]place
	anonymous []mountPoint // filesystems whose device number is not that of a disk
}

func (r *resolver) place(d device, depth int) place {
	if r.disks[d] {
		return place{on: true}
	}
	if d.major == 0 || depth > maxDepth {
		return place{}
	}
	if p, ok := r.known[d]; ok {
		return p
	}
	var p place
	for _, below := range r.below(d) {
		under := r.place(below.device, depth+1)
		if under.on {
			p.on = true
			p.nested = max(p.nested, under.nested+below.nested)
		}
	}
	r.known[d] = p
	return p
}

// layer is a device on which another one rests; nested is 1 when it does so as a file of a filesystem.
type layer struct {
	device device
	nested int
	// offset is where it begins there, in bytes; whole says that it lies there in one piece, from that offset on.
	offset int64
	whole  bool
}

// OffsetOn returns where a device begins on a disk, in bytes. ok is false when it does not lie there in one piece.
func OffsetOn(disk string, major, minor uint32) (offset int64, ok bool) {
	top, low, err := blockdev.DevNumber(disk)
	if err != nil {
		return 0, false
	}
	r := &resolver{}
	d := device{major, minor}
	for range maxDepth {
		if d == (device{top, low}) {
			return offset, true
		}
		layers := r.below(d)
		if len(layers) != 1 || !layers[0].whole || layers[0].offset < 0 {
			break
		}
		d, offset = layers[0].device, offset+layers[0].offset
	}
	return 0, false
}

// below returns what a device rests on: the disk of a partition, the members of an array or mapping, the file of a loop.
func (r *resolver) below(d device) []layer {
	sys := blockdev.SysPath(d.major, d.minor)
	var layers []layer
	if _, err := os.Stat(filepath.Join(sys, "partition")); err == nil {
		if real, err := filepath.EvalSymlinks(sys); err == nil {
			if disk, err := readDevice(filepath.Join(filepath.Dir(real), "dev")); err == nil {
				start, err := readNumber(filepath.Join(sys, "start"))
				layers = append(layers, layer{device: disk, offset: start * 512, whole: err == nil})
			}
		}
	}
	if slaves, err := os.ReadDir(filepath.Join(sys, "slaves")); err == nil {
		for _, s := range slaves {
			if slave, err := readDevice(filepath.Join(sys, "slaves", s.Name(), "dev")); err == nil {
				layers = append(layers, layer{device: slave})
			}
		}
	}
	if _, err := os.Stat(filepath.Join(sys, "loop")); err == nil {
		if l, ok := r.backing(sys); ok {
			layers = append(layers, l)
		}
	}
	return layers
}

// backing asks a loop device what it rests on. The kernel answers with numbers: the name in sysfs may be deleted, or
// belong to another mount namespace.
func (r *resolver) backing(sys string) (layer, bool) {
	name, err := devName(sys)
	if err != nil {
		return layer{}, false
	}
	f, err := os.Open(filepath.Join("/dev", name))
	if err != nil {
		return layer{}, false
	}
	defer func() { _ = f.Close() }()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return layer{}, false
	}
	if info.Rdevice != 0 {
		return layer{device: device{unix.Major(info.Rdevice), unix.Minor(info.Rdevice)}, offset: int64(info.Offset), whole: true}, true
	}
	of := device{unix.Major(info.Device), unix.Minor(info.Device)}
	if of.major == 0 {
		of = r.behind(of, sys, info.Inode)
	}
	return layer{device: of, nested: 1}, true
}

// behind returns the block device of a filesystem with a number of its own. In a btrfs subvolume, mounted or not, files
// have a number that no mountinfo shows; there the file's name tells, if it is that file.
func (r *resolver) behind(of device, sys string, inode uint64) device {
	id := ""
	if name, err := os.ReadFile(filepath.Join(sys, "loop", "backing_file")); err == nil {
		path := strings.TrimSuffix(string(name), "\n")
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Ino == inode && (device{unix.Major(st.Dev), unix.Minor(st.Dev)}) == of {
			id, _ = mountID(path)
		}
	}
	for _, m := range r.anonymous {
		if m.device == of || m.id == id {
			return m.block()
		}
	}
	return of
}

// devName returns the name of a device's node in /dev.
func devName(sys string) (string, error) {
	text, err := os.ReadFile(filepath.Join(sys, "uevent"))
	if err != nil {
		return "", fmt.Errorf("look up a device's name: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s names no device node", sys)
}

func readNumber(path string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read a number: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}

func readDevice(path string) (device, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return device{}, fmt.Errorf("read a device number: %w", err)
	}
	return parseDevice(strings.TrimSpace(string(text)))
}

func parseDevice(text string) (device, error) {
	major, minor, ok := strings.Cut(text, ":")
	a, err1 := strconv.ParseUint(major, 10, 32)
	b, err2 := strconv.ParseUint(minor, 10, 32)
	if !ok || errors.Join(err1, err2) != nil {
		return device{}, fmt.Errorf("%q is no device number", text)
	}
	return device{uint32(a), uint32(b)}, nil
}
