package convert

import (
	"regexp"
	"slices"
	"strings"

	"rehost/protocol"
)

// tableEntry is a line of fstab: its fields and the text between them.
type tableEntry struct {
	line   string
	fields []string // spec, file, type, options, dump, pass; nil for a comment or an empty line
}

func parseTable(text string) []tableEntry {
	var entries []tableEntry
	for line := range strings.Lines(text) {
		e := tableEntry{line: line}
		if f := strings.Fields(line); len(f) >= 3 && !strings.HasPrefix(f[0], "#") {
			e.fields = f
			if len(f) == 3 {
				e.fields = append(f, "defaults")
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// oldName matches the names that disks have on other hypervisors.
var oldName = regexp.MustCompile(`^/dev/(?:(?:xv|[shv])d([a-z]{1,2})|nvme(\d{1,2})n1p?)(\d*)$`)

// byName returns the filesystem that a device name of the source means. Letters
// count the disks in the source's order, with the boot disk as the first.
func (f Facts) byName(name string) (Filesystem, bool) {
	m := oldName.FindStringSubmatch(name)
	if m == nil {
		return Filesystem{}, false
	}
	disk := number(m[2])
	if m[1] != "" { // after sdz comes sdaa
		disk = -1
		for _, letter := range m[1] {
			disk = (disk+1)*26 + int(letter-'a')
		}
	}
	if disk >= len(f.Disks) {
		return Filesystem{}, false
	}
	for _, s := range f.Disks[disk].Filesystems {
		if number(m[3]) == s.Partition && !s.stacked() {
			return s, true
		}
	}
	return Filesystem{}, false
}

func number(digits string) int {
	n := 0
	for _, d := range digits {
		n = n*10 + int(d-'0')
		if n > 1<<16 {
			return -1
		}
	}
	return n
}

// bySpec returns the filesystem that an fstab spec means; known is false for a
// spec that says nothing about the attached disks, such as tmpfs or a mapper name that no layer has.
func (f Facts) bySpec(spec string) (s Filesystem, found, known bool) {
	spec = strings.ReplaceAll(spec, `"`, "")
	tag := func(prefix string, get func(Filesystem) string) bool {
		value, ok := strings.CutPrefix(spec, prefix)
		if !ok {
			return false
		}
		known = true
		s, found = f.filesystem(func(s Filesystem) bool { return value != "" && strings.EqualFold(get(s), value) })
		return true
	}
	uuid := func(s Filesystem) string { return s.UUID }
	label := func(s Filesystem) string { return s.Label }
	part := func(s Filesystem) string { return s.PartUUID }
	name := func(s Filesystem) string { return s.PartLabel }
	switch {
	case tag("UUID=", uuid), tag("/dev/disk/by-uuid/", uuid), tag("LABEL=", label), tag("/dev/disk/by-label/", label),
		tag("PARTUUID=", part), tag("/dev/disk/by-partuuid/", part),
		tag("PARTLABEL=", name), tag("/dev/disk/by-partlabel/", name):
	case strings.HasPrefix(spec, "/dev/disk/by-"):
		return f.byID(spec)
	case oldName.MatchString(spec):
		known = true
		s, found = f.byName(spec)
	case strings.HasPrefix(spec, "/dev/"):
		s, found = f.filesystem(func(s Filesystem) bool { return s.isDevice(spec) })
		known = found
	}
	return s, found, known
}

// networkTypes are filesystems that need the network; shareTypes need a hypervisor that will be gone.
var (
	networkTypes = []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs", "sshfs"}
	shareTypes   = []string{"vboxsf", "vmhgfs", "fuse.vmhgfs-fuse", "prl_fs", "9p", "virtiofs"}
)

// fstab plans stable names for what is attached, and keeps what is not from
// stopping the boot.
func (p *planner) fstab() error {
	const path = "/etc/fstab"
	text, ok := p.facts.text(path)
	if !ok {
		return nil
	}
	var out strings.Builder
	for _, e := range parseTable(text) {
		out.WriteString(p.fstabLine(e))
	}
	p.write(path, out.String(), 0o644, "device names change in EC2, and a missing device must not stop the boot")
	return nil
}

func (p *planner) fstabLine(e tableEntry) string {
	if e.fields == nil {
		return e.line
	}
	spec, kind, options := e.fields[0], e.fields[2], e.fields[3]
	switch {
	case slices.Contains(shareTypes, kind):
		p.warn(protocol.FindingFstabShare, e.fields[1], "bring the data by another way, or mount it from a server that EC2 reaches",
			"fstab mounts %s at %s, a share of the old hypervisor: the conversion takes the line out", spec, e.fields[1])
		return "# rehost: needs the old hypervisor: " + e.line
	case slices.Contains(networkTypes, kind):
		p.warn(protocol.FindingFstabNetwork, e.fields[1], "see to it that its server can be reached from the subnet",
			"fstab mounts %s at %s over the network; the boot will not wait for it", spec, e.fields[1])
		return withFields(e, spec, withOptions(options, "nofail", "_netdev"))
	}
	at := e.fields[1]
	if kind == "swap" {
		at = kind
	}
	s, found, known := p.facts.bySpec(spec)
	switch {
	case !known && !p.facts.lost(spec), hasOption(options, "noauto") && !found:
		return e.line
	case found && s.UUID != "" && typeFits(kind, s.Type):
		if !strings.HasPrefix(spec, "/dev/") || strings.HasPrefix(spec, "/dev/disk/by-") && !ofHardware(spec) || s.isDevice(spec) {
			return e.line // stable already
		}
		p.note(protocol.FindingFstabName, at, "fstab has %s for %s, a name that changes: the conversion writes UUID=%s", spec, at, s.UUID)
		return withFields(e, "UUID="+s.UUID, options)
	case e.fields[1] == "/":
		return e.line // the kernel command line decides, not this
	case strings.Contains(spec, "-iscsi-") || hasOption(options, "_netdev") && !p.facts.gone(spec):
		p.warn(protocol.FindingFstabNetwork, at, "see to it that its target can be reached from the subnet",
			"fstab has %s for %s, a disk that comes over the network; the boot will not wait for it", spec, at)
		return withFields(e, spec, withOptions(options, "nofail", "_netdev"))
	}
	if !hasOption(options, "nofail") {
		p.warn(protocol.FindingFstabMissing, at, "add its disk to the server's disks, write the filesystem's UUID into fstab if it is there, or take the line out on the source",
			"fstab has %s for %s, which is on none of the replicated disks; the boot will not wait for it", spec, at)
	}
	return withFields(e, spec, withOptions(options, "nofail", "x-systemd.device-timeout=5s"))
}

func typeFits(want, have string) bool {
	return want == have || want == "auto" || (strings.HasPrefix(want, "ext") && strings.HasPrefix(have, "ext"))
}

func hasOption(options, name string) bool { return slices.Contains(strings.Split(options, ","), name) }

func withOptions(options string, add ...string) string {
	for _, name := range add {
		if !hasOption(options, name) {
			options += "," + name
		}
	}
	return options
}

// withFields returns the line with another spec and other options; the rest, white space too, stays.
func withFields(e tableEntry, spec, options string) string {
	if spec == e.fields[0] && options == e.fields[3] {
		return e.line
	}
	rest := e.line
	var out strings.Builder
	for i, f := range strings.Fields(e.line) {
		at := strings.Index(rest, f)
		out.WriteString(rest[:at])
		rest = rest[at+len(f):]
		switch i {
		case 0:
			f = spec
		case 3:
			f = options
		}
		out.WriteString(f)
		if i == 2 && len(strings.Fields(e.line)) == 3 {
			out.WriteString(" " + options)
		}
	}
	return out.String() + rest
}
