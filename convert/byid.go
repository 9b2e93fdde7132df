package convert

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// hardware are folders of names that come from the old hypervisor's disks and controllers.
var hardware = []string{"/dev/disk/by-id/", "/dev/disk/by-path/"}

// ofHardware says whether a name of a device comes from its hardware. Those in by-id that begin with dm- and md- come from LVM,
// LUKS and RAID, and stay.
func ofHardware(name string) bool {
	base := path.Base(name)
	return slices.Contains(hardware, path.Dir(name)+"/") && !strings.HasPrefix(base, "dm-") && !strings.HasPrefix(base, "md-")
}

// partOfName matches names of partitions in by-id and by-path.
var partOfName = regexp.MustCompile(`^(.+)-part(\d+)$`)

// byID returns the filesystem that a name in /dev/disk/by-id or by-path means; known is false when it may be on the disks all the same.
func (f Facts) byID(name string) (s Filesystem, found, known bool) {
	base := path.Base(name)
	id := func(prefix string) (string, bool) { return strings.CutPrefix(base, prefix) }
	if mapped, ok := id("dm-name-"); ok {
		return f.bySpec("/dev/mapper/" + mapped)
	}
	if both, ok := id("dm-uuid-LVM-"); ok { // the group's and the volume's
		s, found = f.filesystem(func(s Filesystem) bool {
			return slices.ContainsFunc(s.Stack, func(l Layer) bool {
				return l.Kind == LayerLVM && l.UUID != "" && strings.HasSuffix(both, strings.ReplaceAll(l.UUID, "-", ""))
			})
		})
		return s, found, found || !f.hasType("LVM2_member")
	}
	if parts := strings.SplitN(base, "-", 6); len(parts) == 6 && strings.HasPrefix(base, "dm-uuid-CRYPT-") { // kind, UUID and name
		return f.bySpec("/dev/mapper/" + parts[5])
	}
	if uuid, ok := id("md-uuid-"); ok {
		s, found = f.filesystem(func(s Filesystem) bool { l, ok := s.Layer(LayerMD); return ok && l.UUID == uuid })
		return s, found, found || !f.hasType("linux_raid_member")
	}
	if !ofHardware(name) {
		return s, false, false
	}
	s, found = f.onRootDisk(path.Base(name))
	return s, found, true
}

// onRootDisk returns a partition of the disk that the root is on, when fstab calls that disk by the same name.
func (f Facts) onRootDisk(name string) (Filesystem, bool) {
	m := partOfName.FindStringSubmatch(name)
	if m == nil {
		return Filesystem{}, false
	}
	table, _ := f.text("/etc/fstab")
	for _, e := range parseTable(table) {
		if e.fields == nil || e.fields[1] != "/" {
			continue
		}
		root := partOfName.FindStringSubmatch(path.Base(e.fields[0]))
		if root == nil || root[1] != m[1] {
			return Filesystem{}, false
		}
		for _, d := range f.Disks {
			isRoot := func(s Filesystem) bool { return s.Mount == "/" && !s.stacked() && s.Partition == number(root[2]) }
			i := slices.IndexFunc(d.Filesystems, func(s Filesystem) bool { return s.Partition == number(m[2]) && !s.stacked() })
			if i >= 0 && slices.ContainsFunc(d.Filesystems, isRoot) {
				return d.Filesystems[i], true
			}
		}
	}
	return Filesystem{}, false
}
