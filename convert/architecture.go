package convert

import (
	"debug/elf"
	"fmt"

	"rehost/protocol"
)

// programs are some that every system has one of, by which its architecture is known.
var programs = []string{"/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/bin/sh", "/usr/bin/env"}

// machineNames are those that people know better than ELF's.
var machineNames = map[elf.Machine]string{elf.EM_X86_64: x86, elf.EM_386: "32-bit x86", elf.EM_AARCH64: "64-bit ARM", elf.EM_ARM: "32-bit ARM"}

// x86 is the only architecture that is converted.
const x86 = "64-bit x86"

// inspectArchitecture finds out what the guest's programs are for. Without any that is known it stays empty, and the guest is
// left to the checks of its kernel.
func (f *Facts) inspectArchitecture(root *Root) {
	for _, name := range programs {
		file, err := root.OpenFile(name)
		if err != nil {
			continue
		}
		head, err := elf.NewFile(file)
		_ = file.Close() // nothing was written
		if err != nil {
			continue
		}
		if f.Program, f.Architecture = name, machineNames[head.Machine]; f.Architecture == "" {
			f.Architecture = fmt.Sprint(head.Machine)
		}
		return
	}
}

// checkArchitecture refuses a guest whose programs no 64-bit x86 instance of EC2 is meant for: also one with a 64-bit kernel under
// 32-bit programs, which AWS does not support.
func (p *planner) checkArchitecture() error {
	if a := p.facts.Architecture; a != "" && a != x86 {
		p.refuse(protocol.FindingArchitecture, p.facts.Program, "install the 64-bit x86 edition of the system",
			"%s of the guest is for %s", p.facts.Program, a)
	}
	return nil
}
