package convert

import (
	"path"
	"slices"
	"strings"
)

// LayerKind is a kind of thing between a disk and a filesystem's files.
type LayerKind string

// Kinds of layers.
const (
	LayerLVM       LayerKind = "lvm"       // a logical volume
	LayerMD        LayerKind = "md"        // an array of the kernel's software RAID
	LayerLUKS      LayerKind = "luks"      // an encrypted device
	LayerThin      LayerKind = "lvm-thin"  // a thin pool of LVM, below its logical volumes
	LayerSubvolume LayerKind = "subvolume" // a subvolume of btrfs; always the uppermost
)

// Layer is one thing between a disk and a filesystem's files.
type Layer struct {
	Kind LayerKind `json:"kind"`
	// Name is, of a logical volume, its name; of an array, its name in the superblock without
	// the host; of an encrypted device, what the guest's crypttab calls it, empty when it does not;
	// of a subvolume, its path from the top of the filesystem, such as "@".
	Name string `json:"name,omitempty"`
	// Group is the volume group of a logical volume.
	Group string `json:"group,omitempty"`
	// UUID is as the layer's own tools write it: that of the logical volume, the array or the LUKS
	// header. A subvolume has none.
	UUID string `json:"uuid,omitempty"`
}

// Layer returns the lowest layer of a kind that a filesystem is on.
func (s Filesystem) Layer(kind LayerKind) (Layer, bool) {
	for _, l := range s.Stack {
		if l.Kind == kind {
			return l, true
		}
	}
	return Layer{}, false
}

// stacked says whether a filesystem is on more than a partition or a disk.
func (s Filesystem) stacked() bool {
	return slices.ContainsFunc(s.Stack, func(l Layer) bool { return l.Kind != LayerSubvolume })
}

// Subvolume returns the path of the subvolume that is mounted at [Filesystem.Mount]; empty: the whole filesystem.
func (s Filesystem) Subvolume() string {
	l, _ := s.Layer(LayerSubvolume)
	return l.Name
}

// Device returns the name that the guest itself gives to the device of a filesystem, which does not
// depend on its disks; empty when it is on a partition, or the guest has no such name.
func (s Filesystem) Device() string {
	for i := len(s.Stack) - 1; i >= 0; i-- {
		switch l := s.Stack[i]; {
		case l.Kind == LayerSubvolume:
			continue
		case l.Kind == LayerLVM:
			return "/dev/mapper/" + mapped(l.Group) + "-" + mapped(l.Name)
		case l.Name == "":
			return ""
		case l.Kind == LayerLUKS:
			return "/dev/mapper/" + l.Name
		default:
			return arrayDevice(l.Name)
		}
	}
	return ""
}

// arrayDevice is where mdadm puts an array of that name.
func arrayDevice(name string) string {
	if strings.Trim(name, "0123456789") == "" {
		return "/dev/md" + name
	}
	return "/dev/md/" + name
}

// mapped is a part of a name as the device mapper writes it: hyphens double.
func mapped(name string) string { return strings.ReplaceAll(name, "-", "--") }

// isDevice says whether name means the device of a filesystem that is on LVM, RAID or LUKS.
func (s Filesystem) isDevice(name string) bool {
	name = path.Clean(name)
	device := s.Device()
	if device == "" {
		return false
	}
	if l, ok := s.Layer(LayerLVM); ok && name == "/dev/"+l.Group+"/"+l.Name {
		return true
	}
	number, isNumber := strings.CutPrefix(device, "/dev/md")
	return name == device || (isNumber && name == "/dev/md/"+strings.TrimPrefix(number, "/"))
}

// Holds returns the filesystem that a path of the guest is on, by where the guest mounts its
// filesystems.
func (f Facts) Holds(name string) (Filesystem, bool) {
	var best Filesystem
	for _, d := range f.Disks {
		for _, s := range d.Filesystems {
			at := strings.TrimSuffix(s.Mount, "/")
			if s.Mount != "" && len(s.Mount) > len(best.Mount) && (name == s.Mount || strings.HasPrefix(name, at+"/")) {
				best = s
			}
		}
	}
	return best, best.Mount != ""
}
