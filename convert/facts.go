// Package convert makes an offline guest boot in EC2: it inspects a mounted root,
// plans changes as a value, applies the plan, and can undo it. What to do is
// decided by what is found on the disk, not by the distribution's name. The
// package treats the guest as hostile: nothing of it is executed and no path
// leaves its root. It neither finds nor mounts disks.
package convert

import (
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"fmt"
	"io/fs"

	"rehost/convert/internal/guest"
	"rehost/protocol"
)

// Root is a mounted guest.
type Root = guest.Root

// Open opens the guest whose root is mounted at dir.
func Open(dir string) (*Root, error) { return guest.Open(dir) }

// Filesystem is a filesystem or a swap area on one of the attached disks.
type Filesystem struct {
	Partition int    `json:"partition"` // number in the partition table; 0: the whole disk
	Offset    int64  `json:"offset"`    // on the disk, in bytes
	Size      int64  `json:"size"`
	Type      string `json:"type"` // ext4, xfs, swap, vfat, ...; empty when unknown
	UUID      string `json:"uuid,omitempty"`
	Label     string `json:"label,omitempty"`
	PartUUID  string `json:"part_uuid,omitempty"`
	PartLabel string `json:"part_label,omitempty"` // the partition's name in a GPT
	PartType  string `json:"part_type,omitempty"`  // the partition's type in a GPT; empty in other tables
	Group     string `json:"group,omitempty"`      // of a physical volume: its volume group; empty: not known; "-": one that lacks disks and will not be activated
	// Stack is what is between the disk and the files, the lowest first. With LVM, RAID or LUKS in it, the
	// filesystem is listed at the disk and the partition of its first member, has no offset and no
	// PartUUID, and that member is in the list too, with a type such as LVM2_member.
	Stack []Layer `json:"stack,omitempty"`
	// Mount is where the guest mounts it: "/" for the root; the uppermost place when there are several; empty for none.
	Mount string `json:"mount,omitempty"`
}

// Disk is an attached disk with what is on it. The boot disk comes first, the
// others in the order of the source.
type Disk struct {
	Volume      string       `json:"volume"`
	Boot        bool         `json:"boot"`
	Filesystems []Filesystem `json:"filesystems"`
}

// Facts is all that a plan depends on.
type Facts struct {
	Guest   protocol.Guest  `json:"guest"`
	Disks   []Disk          `json:"disks"`
	Kernels []Kernel        `json:"kernels"`
	Files   map[string]File `json:"files"` // what a plan may look at or change, by path in the guest
	Boot    Boot            `json:"boot"`
	Spaces  []Space         `json:"spaces"` // of the filesystems that a conversion writes to
	SELinux SELinux         `json:"selinux"`

	Architecture string `json:"architecture,omitempty"` // of the guest's own programs; empty: not known
	Program      string `json:"program,omitempty"`      // by which it is known

	folders   map[string]bool // where files are, or would be, that were looked at
	inspected int64           // bytes of files so far
	scans     Scans
}

// File is a file, a link or a folder of the guest.
type File struct {
	Mode fs.FileMode `json:"mode"`
	Link string      `json:"link,omitempty"` // target of a link
	Data []byte      `json:"-"`              // content of a regular file that is small enough to plan with
	Sum  string      `json:"sum,omitempty"`  // sha256 of the content
	Size int64       `json:"size"`
	At   string      `json:"at,omitempty"` // where it is when its folder is behind a link
	// Target is the file behind the links, when there are any: what an edit changes.
	Target string `json:"target,omitempty"`
}

// Kernel is an installed kernel.
type Kernel struct {
	Version string            `json:"version"`
	Drivers map[string]Driver `json:"drivers"` // of the drivers that EC2 and the root filesystem need
	Initrd  *Initrd           `json:"initrd,omitempty"`
	Fault   string            `json:"fault,omitempty"`   // why its initramfs cannot be read
	Timeout string            `json:"timeout,omitempty"` // the argument for the longest disk timeout that its driver takes; empty: not known
	NoGzip  bool              `json:"no_gzip,omitempty"` // it cannot unpack a gzip archive
}

// Driver says where a kernel has a driver.
type Driver string

// Where a driver is.
const (
	DriverBuiltin Driver = "builtin"
	DriverModule  Driver = "module"
	DriverMissing Driver = "missing"
)

// Initrd is a kernel's initramfs image.
type Initrd struct {
	Path        string            `json:"path"`
	Size        int64             `json:"size"`
	Sum         string            `json:"sum"`
	Compression string            `json:"compression"`
	Has         map[string]bool   `json:"has"`   // drivers that are in it
	Tools       map[string]bool   `json:"tools"` // programs for LVM, RAID and LUKS that are in it
	Conf        map[string]string `json:"-"`     // files that a conversion may have to change, by name
	Merged      bool              `json:"usr"`   // lib is a link to usr/lib in it
	Modules     []ModuleFile      `json:"-"`     // what it lacks: drivers, their dependencies and the index
	Names       []string          `json:"names"` // names of the modules in Modules
	state       []byte            // of the hash after the whole image, to go on from
	stamp       string            // of the file when it was read
}

// sumWith returns the sha256 of the image with data at its end.
func (in *Initrd) sumWith(data []byte) (string, error) {
	h := sha256.New()
	if err := h.(encoding.BinaryUnmarshaler).UnmarshalBinary(in.state); err != nil {
		return "", fmt.Errorf("go on with the hash of %s: %w", in.Path, err)
	}
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ModuleFile is a file below a kernel's module folder.
type ModuleFile struct {
	Name string // below /lib/modules/<version>/
	Data []byte
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// text returns the content of a regular file, and whether there is one.
func (f Facts) text(path string) (string, bool) {
	file, ok := f.Files[path]
	if !ok || !file.Mode.IsRegular() {
		return "", false
	}
	return string(file.Data), true
}

// filesystem returns the filesystem that match accepts, if there is exactly one.
func (f Facts) filesystem(match func(Filesystem) bool) (Filesystem, bool) {
	var found []Filesystem
	for _, d := range f.Disks {
		for _, s := range d.Filesystems {
			if match(s) {
				found = append(found, s)
			}
		}
	}
	if len(found) != 1 {
		return Filesystem{}, false
	}
	return found[0], true
}
