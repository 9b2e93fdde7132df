package convert

import (
	"path"
	"slices"
	"strings"
)

// A file in an initramfs that may have to say something else in EC2, and how it is changed.
type initrdConf func(p *planner, in *Initrd, text string) string

const (
	toolsModules = "conf/modules"                   // of initramfs-tools: what it loads first
	devicesFile  = "etc/lvm/devices/system.devices" // of LVM: the only disks that it looks at
	lvmConf      = "etc/lvm/lvm.conf"
)

// confFix returns how the file of that name in an initramfs is changed; nil for one that stays as it is.
func confFix(name string) initrdConf {
	switch {
	case name == toolsModules:
		return func(_ *planner, in *Initrd, text string) string {
			if len(in.Modules) == 0 {
				return text
			}
			return withModules(text)
		}
	case name == "config": // of mkinitcpio
		return func(_ *planner, in *Initrd, text string) string {
			if len(in.Modules) == 0 {
				return text
			}
			return withShellModules(text, "MODULES", `"`, `"`)
		}
	case strings.HasPrefix(name, "conf/conf.d/"):
		return func(p *planner, _ *Initrd, text string) string { return p.fixResume(text) }
	case strings.HasPrefix(name, "etc/cmdline.d/"): // of dracut
		return func(p *planner, _ *Initrd, text string) string { return p.fixArguments(text) }
	case strings.HasPrefix(path.Base(name), "devexists-") && strings.HasSuffix(name, ".sh"): // of dracut: waits for a device
		return func(_ *planner, _ *Initrd, text string) string {
			if oldDevice.MatchString(text) {
				return "# rehost: waited for a disk of the old hypervisor\n"
			}
			return text
		}
	case name == "cryptroot/crypttab", name == "etc/crypttab":
		return func(p *planner, _ *Initrd, text string) string {
			fixed, _ := p.facts.fixCrypttab(text) // the guest's own has said what is lost
			return fixed
		}
	case name == "etc/mdadm.conf", name == "etc/mdadm/mdadm.conf":
		return func(_ *planner, _ *Initrd, text string) string { return fixArrays(text) }
	case name == lvmConf:
		return func(_ *planner, _ *Initrd, text string) string { return fixFilters(text) }
	case strings.HasPrefix("/"+name, modprobeDir+"/"):
		return func(_ *planner, _ *Initrd, text string) string { return loadable(text) }
	case name == devicesFile:
		return func(_ *planner, _ *Initrd, text string) string { return text }
	}
	return nil
}

// fixedConf returns the files in an initramfs that have to change, with what they have to say.
func (p *planner) fixedConf(in *Initrd) map[string]string {
	fixed := map[string]string{}
	for name, text := range in.Conf {
		fixed[name] = confFix(name)(p, in, text)
	}
	if p.facts.Guest.Initramfs == "initramfs-tools" && len(in.Modules) > 0 {
		fixed[toolsModules] = withModules(in.Conf[toolsModules])
	}
	// A file cannot be removed from an image, so LVM is told not to look at it.
	if _, ok := in.Conf[devicesFile]; ok {
		fixed[lvmConf] = withoutDevicesFile(fixed[lvmConf])
	}
	for name, text := range fixed {
		if old, ok := in.Conf[name]; ok && old == text {
			delete(fixed, name)
		}
	}
	return fixed
}

// fixArguments returns lines of kernel arguments that name no disks and cards of the old hypervisor.
func (p *planner) fixArguments(text string) string {
	var out strings.Builder
	all := strings.Fields(text)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		var now []string
		for _, w := range words {
			if name, _, _ := strings.Cut(w, "="); slices.Contains(droppedNames, name) {
				continue
			}
			if p.set.Network == "dhcp" {
				w = withoutAddresses(w, all)
			}
			if a := p.argument(w); a != "" {
				now = append(now, a)
			}
		}
		if !slices.Equal(now, words) {
			line = strings.Join(now, " ") + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}
