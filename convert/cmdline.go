package convert

import (
	"slices"
	"strings"
)

// consoleArgs are on each kernel's command line: both consoles, the serial one
// last because it then is /dev/console.
var consoleArgs = []string{"console=tty0", "console=ttyS0,115200n8"}

// nameArgs keep the kernel's names for the network cards, because nobody knows their slots in advance.
var nameArgs = []string{"net.ifnames=0", "biosdevname=0"}

// dropped are arguments that hide what the console should show, or that keep a kernel from using the disks and the
// network card of EC2, which need MSI-X.
var dropped = []string{"quiet", "splash", "rhgb", "splash=silent", "pci=nomsi", "pci=off", "xen_emul_unplug=never", "xen_emul_unplug=unnecessary"}

// droppedNames are arguments of the old hypervisor and its network cards, whatever their value.
var droppedNames = []string{"ifname", "BOOTIF", "xencons", "xen_blkfront.max", "hv_netvsc.ring_size", "vmw_pvscsi.ring_pages"}

// oldClocks are clocks of other hypervisors.
var oldClocks = []string{"xen", "hyperv_clocksource", "hyperv_clocksource_tsc_page", "acpi_pm"}

// blacklists keep modules from being loaded.
var blacklists = []string{"modprobe.blacklist", "rd.driver.blacklist", "rdblacklist", "module_blacklist"}

// commandLine returns kernel arguments as EC2 needs them, for one kernel or, without a version, for all of them.
func (p *planner) commandLine(args []string, version string) []string {
	add := append(slices.Clone(consoleArgs), p.timeouts(version)...)
	kernelNames := p.set.Network == "dhcp" || len(p.cards) > 0
	if kernelNames {
		add = append(add, nameArgs...)
	}
	var out []string
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		switch {
		case slices.Contains(dropped, a), slices.Contains(droppedNames, name), slices.Contains(add, a),
			name == "console", name == "nvme_core.io_timeout", name == "nvme.io_timeout",
			kernelNames && (name == "net.ifnames" || name == "biosdevname"):
			continue
		}
		if p.set.Network == "dhcp" {
			a = withoutAddresses(a, args)
		}
		if a = p.argument(a); a != "" {
			out = append(out, p.withoutInitrd(a, version))
		}
	}
	return append(out, add...)
}

// withoutAddresses returns an argument that gives the initramfs no address of the old network; empty: not at all.
func withoutAddresses(a string, all []string) string {
	name, value, _ := strings.Cut(a, "=")
	switch {
	case name == "nameserver", name == "rd.route":
		return ""
	case name != "ip" || !strings.Contains(value, ":") && !strings.Contains(value, "."): // a method for any card
		return a
	case slices.Contains(all, "rd.neednet=1"): // to get the key of an encrypted disk
		return "ip=dhcp"
	}
	return ""
}

// argument returns one argument as EC2 needs it; empty: not at all.
func (p *planner) argument(a string) string {
	name, value, _ := strings.Cut(a, "=")
	switch {
	case name == "root" || name == "resume":
		return p.deviceArgument(a, name, value)
	case name == "rd.lvm.lv" || name == "rd.lvm.vg":
		// dracut waits for a volume that is not there.
		if group, _, _ := strings.Cut(value, "/"); p.facts.lacksGroup(group) {
			return ""
		}
	case (name == "clocksource" || name == "clock") && slices.Contains(oldClocks, value):
		return ""
	case slices.Contains(blacklists, name):
		modules := slices.DeleteFunc(strings.Split(value, ","), isNeeded)
		if len(modules) == 0 {
			return ""
		}
		return name + "=" + strings.Join(modules, ",")
	}
	return a
}

func (p *planner) deviceArgument(a, name, value string) string {
	s, ok, _ := p.facts.bySpec(value)
	switch {
	case ok && s.UUID != "" && isOldDevice(value):
		return name + "=UUID=" + s.UUID
	case name == "root" && (isOldDevice(value) || p.facts.lost(value)) && p.facts.Guest.RootUUID != "":
		return "root=UUID=" + p.facts.Guest.RootUUID
	case name == "resume" && !p.isThere(value):
		return ""
	}
	return a
}

// withoutInitrd returns a root argument as a kernel understands it that has no initramfs: it knows no UUID of a filesystem.
func (p *planner) withoutInitrd(a, version string) string {
	uuid, ok := strings.CutPrefix(a, "root=UUID=")
	i := slices.IndexFunc(p.facts.Kernels, func(k Kernel) bool { return k.Version == version })
	if !ok || i < 0 || p.facts.Kernels[i].Initrd != nil || p.facts.Kernels[i].Fault != "" {
		return a
	}
	s, ok := p.facts.filesystem(func(s Filesystem) bool { return s.UUID == uuid })
	if !ok || s.PartUUID == "" {
		return a
	}
	return "root=PARTUUID=" + s.PartUUID
}

// lacksGroup says whether a volume group is on none of the disks, as far as groups are known at all.
func (f Facts) lacksGroup(group string) bool {
	known := false
	for _, d := range f.Disks {
		for _, s := range d.Filesystems {
			if l, ok := s.Layer(LayerLVM); ok {
				known = true
				if l.Group == group {
					return false
				}
			}
		}
	}
	return known
}

// isOldDevice says whether a device name is one that the old hypervisor gave.
func isOldDevice(name string) bool {
	return oldName.MatchString(name) || ofHardware(name)
}

func (p *planner) isThere(spec string) bool {
	_, found, known := p.facts.bySpec(spec)
	return found || !known && !p.facts.lost(spec)
}

// timeouts returns the arguments that make the disk driver wait for EBS longer than for any local disk. A file that
// serves several kernels gets what all of them take: with a value that is too large for it, an old driver does
// not load at all.
func (p *planner) timeouts(version string) []string {
	found := map[string]string{}
	for _, k := range p.facts.Kernels {
		if version != "" && k.Version != version {
			continue
		}
		name, value, _ := strings.Cut(k.timeout(), "=")
		if old := found[name]; old == "" || len(value) < len(old) {
			found[name] = value
		}
	}
	if version != "" && len(found) == 0 {
		return p.timeouts("")
	}
	var args []string
	for _, name := range sortedKeys(found) {
		args = append(args, name+"="+found[name])
	}
	if len(args) == 0 {
		args = []string{"nvme_core.io_timeout=" + ioTimeout}
	}
	return args
}
