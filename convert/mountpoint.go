package convert

import (
	"slices"
	"strings"
)

// MountPoint is a filesystem that belongs below the root for a conversion.
type MountPoint struct {
	Path       string
	Filesystem Filesystem
}

// converted are the mount points that hold what a conversion reads or changes.
var converted = []string{"/boot", "/boot/efi", "/usr", "/var"}

// MountPoints returns what fstab mounts at folders that matter here, in the order
// to mount. What is not on the disks is left out.
func MountPoints(fstab string, disks []Disk) []MountPoint {
	f := Facts{Disks: disks}
	var found []MountPoint
	for _, e := range parseTable(fstab) {
		if e.fields == nil || !slices.Contains(converted, e.fields[1]) {
			continue
		}
		if s, ok, _ := f.bySpec(e.fields[0]); ok && s.Type != "" && s.Type != "swap" {
			found = append(found, MountPoint{Path: e.fields[1], Filesystem: s})
		}
	}
	slices.SortStableFunc(found, func(a, b MountPoint) int { return strings.Compare(a.Path, b.Path) })
	return found
}
