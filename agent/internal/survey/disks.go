package survey

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rehost/agent/internal/host"
	"rehost/convert"
	"rehost/internal/blockdev"
	"rehost/protocol"
)

// liveDisks says what is on the disks as the kernel has it: it knows what is stacked on what, and what is mounted where.
func liveDisks(paths []string) ([]convert.Disk, []protocol.Finding, error) {
	var disks []convert.Disk
	var findings []protocol.Finding
	for _, path := range paths {
		found, err := read(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return nil, nil, err
		}
		if err != nil {
			findings = append(findings, protocol.Finding{
				Severity: protocol.SeverityCritical, Code: protocol.FindingDiskLayout, Subject: path,
				Message: fmt.Sprintf("what is on %s cannot be told: %v", path, err), Hint: "look at it on the source: fdisk -l " + path,
			})
		}
		disks = append(disks, convert.Disk{Volume: path, Filesystems: found})
	}
	filesystems, err := host.Filesystems(paths)
	if err != nil {
		return nil, nil, err
	}
	var numbers []string
	for i, path := range paths {
		plain(&disks[i], filesystems)
		major, minor, err := blockdev.DevNumber(path)
		if err != nil {
			return nil, nil, err
		}
		numbers = append(numbers, fmt.Sprintf("%d:%d", major, minor))
	}
	if err := stacked("/sys", disks, numbers, filesystems); err != nil {
		return nil, nil, err
	}
	return disks, findings, nil
}

// plain takes note of where the partitions of a disk are mounted.
func plain(d *convert.Disk, mounted []host.Filesystem) {
	for _, m := range mounted {
		major, minor := numbersOf(m)
		offset, ok := host.OffsetOn(d.Volume, major, minor)
		for i, s := range d.Filesystems {
			if ok && s.Offset == offset && !elsewhere(m.Mount) {
				d.Filesystems[i].Mount = m.Mount
			}
		}
	}
}

// numbersOf returns the numbers of a filesystem's device; btrfs has numbers of its own.
func numbersOf(m host.Filesystem) (major, minor uint32) {
	if m.Major != 0 {
		return m.Major, m.Minor
	}
	major, minor, err := blockdev.DevNumber(m.Source)
	if err != nil {
		return 0, 0
	}
	return major, minor
}

// elsewhere says that a filesystem is mounted in other mount namespaces only.
func elsewhere(mount string) bool { return strings.HasPrefix(mount, "/proc/") }

// rootOf finds where the root of the system on the disks is mounted: at / as a rule. Disks may also carry a system that does not
// run here but in a container, or that is prepared here; then it is told by what is in it, as at a conversion.
func rootOf(disks []convert.Disk) (mount string, hidden bool) {
	var roots []string
	for _, d := range disks {
		for _, s := range d.Filesystems {
			switch {
			case s.Mount == "/":
				return "/", false
			case s.Mount == "" && slices.Contains(convert.RootTypes, s.Type):
				hidden = true
			case s.Mount != "" && holdsRoot(s.Mount):
				roots = append(roots, s.Mount)
			}
		}
	}
	if len(roots) == 1 {
		return roots[0], false
	}
	return "", hidden
}

func holdsRoot(mount string) bool {
	r, err := convert.Open(mount)
	if err != nil {
		return false
	}
	defer func() { _ = r.Close() }() // nothing was written
	return convert.IsRoot(r)
}

// seenFrom turns the mount points of this host into those of the system whose root is mounted at base, whose boot disk comes first.
func seenFrom(base string, disks []convert.Disk) {
	for i := range disks {
		for j, s := range disks[i].Filesystems {
			rest, below := strings.CutPrefix(s.Mount, strings.TrimSuffix(base, "/"))
			switch {
			case s.Mount == "" || !below:
				rest = ""
			case rest == "":
				rest = "/"
			case rest[0] != '/':
				rest = ""
			}
			disks[i].Filesystems[j].Mount = rest
			disks[i].Boot = disks[i].Boot || rest == "/" || rest == "/boot"
		}
	}
	slices.SortStableFunc(disks, func(a, b convert.Disk) int { return cmp.Compare(second(a), second(b)) })
}

func second(d convert.Disk) int {
	if d.Boot {
		return 0
	}
	return 1
}

func read(path string) ([]convert.Filesystem, error) {
	d, err := blockdev.Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return convert.ReadDisk(d, d.SizeBytes)
}

// stacked completes the disks with what the kernel knows below sys of filesystems that are on more than a partition. numbers are those of the disks, as MAJOR:MINOR.
func stacked(sys string, disks []convert.Disk, numbers []string, mounted []host.Filesystem) error {
	devices, err := os.ReadDir(filepath.Join(sys, "class/block"))
	if err != nil {
		return fmt.Errorf("list block devices: %w", err)
	}
	w := walker{sys: sys}
	for _, d := range devices {
		name := d.Name()
		mount := mountOf(mounted, w.text(name, "dev"))
		layers, disk, part := w.walk(name, 0)
		i := slices.Index(numbers, w.text(disk, "dev"))
		if i < 0 {
			continue
		}
		if len(layers) == 0 {
			continue
		}
		if holders, err := os.ReadDir(w.path(name, "holders")); err == nil && len(holders) > 0 {
			continue // not the uppermost
		}
		s := convert.Filesystem{Partition: part, Stack: layers, Mount: mount}
		if top, err := read("/dev/" + name); err == nil && len(top) == 1 {
			s.Type, s.UUID, s.Label, s.Size = top[0].Type, top[0].UUID, top[0].Label, top[0].Size
		}
		if k := slices.IndexFunc(mounted, func(f host.Filesystem) bool { return mount != "" && f.Mount == mount }); k >= 0 {
			s.Type = mounted[k].Type
		}
		disks[i].Filesystems = append(disks[i].Filesystems, s)
	}
	return nil
}

// mountOf returns where a device is mounted on this host; empty for nowhere, or in other mount namespaces only.
func mountOf(mounted []host.Filesystem, dev string) string {
	for _, f := range mounted {
		major, minor := numbersOf(f)
		if fmt.Sprintf("%d:%d", major, minor) == dev && !elsewhere(f.Mount) {
			return f.Mount
		}
	}
	return ""
}

// walker goes down from a device to the disk of its first member.
type walker struct{ sys string }

// maxDepth bounds how many devices may be stacked on each other.
const maxDepth = 16

func (w walker) path(name, file string) string {
	return filepath.Join(w.sys, "class/block", name, file)
}

func (w walker) text(name, file string) string {
	b, err := os.ReadFile(w.path(name, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// walk returns the layers below a device's content, the lowest first, with the disk and the partition's number that its first
// member is on.
func (w walker) walk(name string, depth int) (layers []convert.Layer, disk string, part int) {
	if depth > maxDepth {
		return nil, "", 0
	}
	if number := w.text(name, "partition"); number != "" {
		if real, err := filepath.EvalSymlinks(filepath.Join(w.sys, "class/block", name)); err == nil {
			_, _ = fmt.Sscan(number, &part) // 0 when it is no number, as for a whole disk
			return nil, filepath.Base(filepath.Dir(real)), part
		}
	}
	slaves, err := os.ReadDir(w.path(name, "slaves"))
	if err != nil || len(slaves) == 0 {
		return nil, name, 0
	}
	layers, disk, part = w.walk(slaves[0].Name(), depth+1)
	if l, ok := w.layer(name); ok {
		layers = append(layers, l)
	}
	return layers, disk, part
}

// layer says what a device is that has others below it.
func (w walker) layer(name string) (convert.Layer, bool) {
	if _, err := os.Stat(w.path(name, "md")); err == nil {
		return convert.Layer{Kind: convert.LayerMD, Name: strings.TrimPrefix(name, "md")}, true
	}
	id, mapped := w.text(name, "dm/uuid"), w.text(name, "dm/name")
	switch {
	case strings.HasPrefix(id, "LVM-") && strings.HasSuffix(id, "-tpool"):
		return convert.Layer{Kind: convert.LayerThin}, true
	case strings.HasPrefix(id, "LVM-"):
		group, volume := splitMapped(mapped)
		return convert.Layer{Kind: convert.LayerLVM, Group: group, Name: volume, UUID: volumeUUID(id)}, true
	case strings.HasPrefix(id, "CRYPT-LUKS"):
		return convert.Layer{Kind: convert.LayerLUKS, Name: mapped}, true
	}
	return convert.Layer{}, false // such as multipath: another way to the same content
}

// volumeUUID returns the UUID of a logical volume as LVM writes it, from the device mapper's for it: LVM-, the group's, its own.
func volumeUUID(id string) string {
	const length = 32
	if len(id) != len("LVM-")+2*length {
		return ""
	}
	id = id[len(id)-length:]
	return strings.Join([]string{id[:6], id[6:10], id[10:14], id[14:18], id[18:22], id[22:26], id[26:]}, "-")
}

// splitMapped takes a name of the device mapper apart: the hyphens of a group and of a volume double, the one between does not.
func splitMapped(name string) (group, volume string) {
	for i := 0; i < len(name); i++ {
		if name[i] != '-' {
			continue
		}
		if i+1 < len(name) && name[i+1] == '-' {
			i++
			continue
		}
		return strings.ReplaceAll(name[:i], "--", "-"), strings.ReplaceAll(name[i+1:], "--", "-")
	}
	return "", name
}
