package convert

import (
	"regexp"
	"slices"
	"strings"
)

// goneName matches devices that no instance of EC2 has: behind hardware controllers and multipath drivers, removable ones, and
// names that other clouds give to their disks.
var goneName = regexp.MustCompile(`^/dev/(?:disk/(?:azure|cloud)/.+|oracleoci/.+|(?:cciss|ida|rd)/c\d+d\d+(?:p\d+)?|emcpower[a-z]+\d*|mmcblk\d+(?:p\d+)?|sr\d+|scd\d+|cdrom|dvd|fd\d+)$`)

// lost says whether a name that no filesystem on the disks has means a device that will not be there, or one that
// crypttab opens from such a device.
func (f Facts) lost(name string) bool {
	mapped, ok := strings.CutPrefix(name, "/dev/mapper/")
	device, opened := f.encrypted(mapped)
	if !ok || !opened {
		return f.gone(name)
	}
	_, found, known := f.bySpec(device)
	return known && !found || !known && f.gone(device)
}

// gone says whether a name that no filesystem on the disks has means a device that will not be there: a boot that
// waits for it ends in the emergency shell. What may be on the disks all the same, in a layer that was not opened, is not lost.
func (f Facts) gone(name string) bool {
	rest, ok := strings.CutPrefix(name, "/dev/")
	if !ok {
		return false
	}
	folder, last, deep := strings.Cut(rest, "/")
	switch {
	case goneName.MatchString(name):
		return true
	case !deep && strings.HasPrefix(folder, "md") && strings.Trim(folder[2:], "0123456789") == "", deep && folder == "md":
		return !f.hasType("linux_raid_member")
	case !deep || strings.Contains(last, "/"):
		return false // such as zram0 and drbd/by-res/...
	case folder != "mapper":
		return !f.mayHaveGroup(folder)
	}
	return !f.mayHaveGroup(groupOf(last))
}

// groupOf returns the volume group in a name of the device mapper, where hyphens of the group and the volume are
// double; all of it when it is no logical volume's, as that of a multipath device.
func groupOf(name string) string {
	const hyphen = "\x00"
	group, _, _ := strings.Cut(strings.ReplaceAll(name, "--", hyphen), "-")
	return strings.ReplaceAll(group, hyphen, "-")
}

// encrypted returns the device that crypttab opens by a name.
func (f Facts) encrypted(name string) (device string, ok bool) {
	text, _ := f.text("/etc/crypttab")
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			return fields[1], true
		}
	}
	return "", false
}

// mayHaveGroup says whether a volume group is on the disks, or may be: of a running server it is not known which group a
// physical volume belongs to.
func (f Facts) mayHaveGroup(group string) bool {
	return f.anyFilesystem(func(s Filesystem) bool {
		return s.Type == "LVM2_member" && (s.Group == "" || s.Group == group) ||
			slices.ContainsFunc(s.Stack, func(l Layer) bool { return l.Group == group })
	})
}

func (f Facts) hasType(kind string) bool {
	return f.anyFilesystem(func(s Filesystem) bool { return s.Type == kind })
}

func (f Facts) anyFilesystem(match func(Filesystem) bool) bool {
	return slices.ContainsFunc(f.Disks, func(d Disk) bool { return slices.ContainsFunc(d.Filesystems, match) })
}
