package convert

import (
	"fmt"
	"slices"
	"strings"

	"rehost/protocol"
)

// checkKernel refuses a guest with no kernel that reaches its disk and its network in EC2. When it is only the
// default one that does not, it chooses another.
func (p *planner) checkKernel() error {
	if !p.checkLoader() {
		return nil
	}
	if len(p.facts.Kernels) == 0 {
		p.refuse(protocol.FindingNoKernel, "/lib/modules", "install a distribution kernel on the source", "no kernel with modules is installed in the guest")
		return nil
	}
	var faults []protocol.Finding
	if i := p.facts.Boot.Default; i < 0 {
		faults = []protocol.Finding{{
			Code: protocol.FindingNoKernel, Subject: "/boot", Hint: "check that the boot loader on the source (/boot/grub/grub.cfg) has a default entry with a kernel",
			Message: "the kernel that will boot cannot be told from the boot loader's configuration",
		}}
	} else {
		faults = p.faults(p.facts.Boot.Entries[i])
	}
	if len(faults) == 0 {
		return nil
	}
	if i := p.otherEntry(); i >= 0 {
		p.choose(&p.facts.Boot.Entries[i], faults)
		return nil
	}
	for _, f := range faults {
		f.Severity = protocol.SeverityCritical
		p.findings = append(p.findings, f)
	}
	return nil
}

// checkLoader refuses a boot loader that cannot be converted.
func (p *planner) checkLoader() bool {
	b := p.facts.Boot
	files := map[Loader]string{
		LoaderGRUBLegacy: "/boot/grub/menu.lst", LoaderExtlinux: "/boot/extlinux/extlinux.conf",
	}
	if file, ok := files[b.Loader]; ok {
		p.refuse(protocol.FindingBootLoader, file, "install GRUB 2 on the source", "the guest boots with %s, which cannot be converted", b.Loader)
		return false
	}
	return true
}

// choose makes another entry the default, for the reasons given.
func (p *planner) choose(e *BootEntry, faults []protocol.Finding) {
	p.chosen = e
	p.facts.Guest.Kernel = e.Kernel
	p.findings = append(p.findings, protocol.Finding{
		Severity: protocol.SeverityWarning, Code: protocol.FindingOtherKernel, Subject: moduleDir(e.Kernel),
		Message: fmt.Sprintf("kernel %s will boot instead of the default one: %s", e.Kernel, faults[0].Message),
		Hint:    "test the application with this kernel, or " + faults[0].Hint,
	})
}

// otherEntry returns the entry of the newest kernel that works in EC2; -1 when there is none.
func (p *planner) otherEntry() int {
	best := -1
	entries := p.facts.Boot.Entries
	for i, e := range entries {
		if e.Rescue || len(p.faults(e)) > 0 {
			continue
		}
		if best < 0 || compareVersions(e.Kernel, entries[best].Kernel) > 0 {
			best = i
		}
	}
	return best
}

// faults returns what keeps a boot entry from working in EC2.
func (p *planner) faults(e BootEntry) []protocol.Finding {
	var found []protocol.Finding
	add := func(code protocol.FindingCode, subject, hint, message string) {
		found = append(found, protocol.Finding{Code: code, Subject: subject, Hint: hint, Message: message})
	}
	if e.Unified {
		add(protocol.FindingBootLoader, e.Image, "install the kernel with an initramfs and an entry of its own on the source: layout=bls in /etc/kernel/install.conf",
			"the guest boots "+e.Image+", one image of kernel, initramfs and command line, which cannot be changed")
		return found
	}
	i := slices.IndexFunc(p.facts.Kernels, func(k Kernel) bool { return k.Version == e.Kernel })
	if i < 0 {
		add(protocol.FindingNoKernel, moduleDir(e.Kernel), "reinstall that kernel's package on the source",
			"the boot loader starts kernel "+e.Kernel+", which has no modules in /lib/modules")
		return found
	}
	k := p.facts.Kernels[i]
	if len(e.Lost) > 0 {
		add(protocol.FindingNoKernel, "/boot", "reinstall that kernel's package on the source, or take the entry out of the boot menu",
			"the boot loader loads "+strings.Join(e.Lost, " and ")+" for kernel "+k.Version+", and there is no such file")
	}
	for _, d := range drivers {
		if k.Drivers[d] == DriverMissing {
			add(protocol.FindingKernelDriver, moduleDir(k.Version), "install a kernel with NVMe and ENA drivers on the source and make it the boot loader's default",
				"kernel "+k.Version+", which will boot, has no "+d+" driver")
		}
	}
	hint := "make an initramfs for that kernel on the source: " + p.initramfsCommand(k.Version)
	switch {
	case k.Fault != "":
		add(protocol.FindingNoInitramfs, "/boot", hint, "the initramfs of kernel "+k.Version+" cannot be used: "+k.Fault)
	case k.Initrd == nil && k.Drivers["nvme"] == DriverModule:
		add(protocol.FindingNoInitramfs, "/boot", hint, "kernel "+k.Version+" has NVMe as a module and no initramfs")
	}
	for _, tool := range p.lackingTools(k) {
		add(protocol.FindingInitramfsTool, k.Initrd.Path, "install the package with "+tool+" on the source and make the initramfs again",
			"the root filesystem needs "+tool+", which is not in the initramfs of kernel "+k.Version)
	}
	return found
}

// initramfsCommand is what a person types to make an initramfs.
func (p *planner) initramfsCommand(version string) string {
	switch p.facts.Guest.Initramfs {
	case "dracut":
		return "dracut --force --kver " + version
	case "mkinitcpio":
		return "mkinitcpio -P"
	case "mkinitrd":
		return "mkinitrd"
	}
	return "update-initramfs -c -k " + version
}

// lackingTools returns the programs that the root filesystem's layers need and an initramfs does not have.
func (p *planner) lackingTools(k Kernel) []string {
	root, ok := p.facts.Holds("/")
	if !ok || k.Initrd == nil {
		return nil
	}
	var lacking []string
	for _, l := range root.Stack {
		tools := map[LayerKind][]string{LayerLVM: {"lvm"}, LayerMD: {"mdadm"}, LayerLUKS: {"cryptsetup", "systemd-cryptsetup"}}[l.Kind]
		has := slices.ContainsFunc(tools, func(t string) bool { return k.Initrd.Tools[t] })
		if len(tools) > 0 && !has && !slices.Contains(lacking, tools[0]) {
			lacking = append(lacking, tools[0])
		}
	}
	return lacking
}

// biosBoot refuses a disk that BIOS firmware cannot start: a GPT without a place for GRUB's core image.
func (p *planner) biosBoot() error {
	if p.facts.Guest.BootMode != "bios" || p.facts.Boot.Loader != LoaderGRUB {
		return nil
	}
	for _, d := range p.facts.Disks {
		gpt := slices.ContainsFunc(d.Filesystems, func(s Filesystem) bool { return s.PartType != "" })
		if d.Boot && gpt && !p.facts.hasPart(biosBootType) {
			p.refuse(protocol.FindingBIOSBoot, d.Volume, "install GRUB for BIOS on the source (grub-pc, grub2-pc-modules) with a BIOS boot partition",
				"the boot disk has a GPT, no EFI loader and no BIOS boot partition")
		}
	}
	return nil
}
