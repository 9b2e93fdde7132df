package convert

import (
	"slices"
	"strings"
)

// MountPoint is a place below the root that fstab mounts something at.
type MountPoint struct {
	Path       string
	Spec       string // as fstab has it
	Found      bool   // Filesystem is on the disks
	Filesystem Filesystem
	Options    string // that choose a subvolume
	Subvolume  string // its path; empty when none is chosen by its path
	Extra      bool   // a conversion does not look at it
}

// converted are the mount points that hold what a conversion reads or changes.
var converted = []string{"/boot", "/boot/efi", "/efi", "/usr", "/var", "/var/lib"}

// MountPoints returns what fstab mounts at folders that matter here, in the order
// to mount; with all, also what it mounts elsewhere at each boot. What is mounted on demand only and is not on the disks is left out.
func MountPoints(fstab string, disks []Disk, all bool) []MountPoint {
	f := Facts{Disks: disks}
	var found []MountPoint
	for _, e := range parseTable(fstab) {
		if e.fields == nil || slices.ContainsFunc(found, func(m MountPoint) bool { return m.Path == e.fields[1] }) {
			continue
		}
		s, ok, _ := f.bySpec(e.fields[0])
		m := MountPoint{Path: e.fields[1], Spec: e.fields[0], Filesystem: s, Found: ok && s.Type != "" && s.Type != "swap", Extra: !slices.Contains(converted, e.fields[1])}
		if m.Extra && (!all || !isExtra(e)) {
			continue
		}
		if !m.Found && (hasOption(e.fields[3], "noauto") || hasOption(e.fields[3], "bind") || e.fields[2] == "tmpfs" || slices.Contains(networkTypes, e.fields[2])) {
			continue
		}
		if s.Type == "btrfs" {
			m.Options, m.Subvolume = subvolume(e.fields[3])
		}
		found = append(found, m)
	}
	slices.SortStableFunc(found, func(a, b MountPoint) int { return strings.Compare(a.Path, b.Path) })
	return found
}

// ImplicitESP returns where the EFI system partition of the boot disk belongs when fstab does not have it: systemd finds it by its type
// and mounts it at /efi, or at /boot if that is empty; GRUB's tools want it at /boot/efi.
func ImplicitESP(root *Root, fstab string, disks []Disk) (MountPoint, bool) {
	f := Facts{Disks: disks}
	esp, ok := f.filesystem(func(s Filesystem) bool { return strings.EqualFold(s.PartType, espType) && f.onBootDisk(s) })
	if !ok || esp.Type != "vfat" || esp.Mount != "" || f.hasPart(biosBootType) { // such a disk boots by BIOS, see [Facts.bootMode]
		return MountPoint{}, false
	}
	var mounted []string
	for _, e := range parseTable(fstab) {
		if e.fields == nil {
			continue
		}
		if s, ok, _ := f.bySpec(e.fields[0]); ok && s.UUID == esp.UUID && s.PartUUID == esp.PartUUID {
			return MountPoint{}, false
		}
		mounted = append(mounted, e.fields[1])
	}
	for _, dir := range []string{"/efi", "/boot/efi", "/boot"} {
		names, err := root.ReadDir(dir)
		if err == nil && !slices.Contains(mounted, dir) && (dir == "/efi" || len(names) == 0) {
			return MountPoint{Path: dir, Spec: "PARTUUID=" + esp.PartUUID, Found: true, Filesystem: esp}, true
		}
	}
	return MountPoint{}, false
}

func (f Facts) onBootDisk(s Filesystem) bool {
	return slices.ContainsFunc(f.Disks, func(d Disk) bool {
		return d.Boot && slices.ContainsFunc(d.Filesystems, func(o Filesystem) bool {
			return o.Partition == s.Partition && o.Offset == s.Offset && o.UUID == s.UUID && o.PartUUID == s.PartUUID
		})
	})
}

// isExtra says whether a line mounts a filesystem of a disk below the root at each boot.
func isExtra(e tableEntry) bool {
	point, kind := e.fields[1], e.fields[2]
	return strings.HasPrefix(point, "/") && point != "/" && !hasOption(e.fields[3], "noauto") && !hasOption(e.fields[3], "bind") &&
		(slices.Contains(RootTypes, kind) || kind == "vfat" || kind == "auto")
}

// subvolume returns the mount option that chooses a subvolume, and its path.
func subvolume(options string) (option, name string) {
	for o := range strings.SplitSeq(options, ",") {
		if v, ok := strings.CutPrefix(o, "subvol="); ok {
			return o, strings.Trim(v, "/")
		}
		if strings.HasPrefix(o, "subvolid=") {
			option = o
		}
	}
	return option, ""
}

// RootSubvolume returns the subvolume that an fstab mounts as the root; empty when it names none.
func RootSubvolume(fstab string) string {
	for _, e := range parseTable(fstab) {
		if e.fields != nil && e.fields[1] == "/" {
			_, name := subvolume(e.fields[3])
			return name
		}
	}
	return ""
}

// EncryptedNames returns what a crypttab calls the LUKS devices, by their UUID.
func EncryptedNames(crypttab string, disks []Disk) map[string]string {
	f := Facts{Disks: disks}
	names := map[string]string{}
	for line := range strings.Lines(crypttab) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(fields[0], "#") || strings.Contains(fields[0], "/") {
			continue
		}
		if s, ok, _ := f.bySpec(fields[1]); ok && s.Type == "crypto_LUKS" {
			names[s.UUID] = fields[0]
		}
	}
	return names
}
