package storage

import (
	"debug/elf"
	"fmt"

	"rehost/protocol"
)

// programs are some that every system has one of, by which its architecture is known.
var programs = []string{"/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/bin/sh", "/usr/bin/env"}

// checkArchitecture refuses a guest whose programs no 64-bit x86 instance of EC2 runs. A guest without any
// program that is known is left to the checks of its kernel.
func (g *Guest) checkArchitecture() error {
	for _, name := range programs {
		file, err := g.Root.OpenFile(name)
		if err != nil {
			continue
		}
		head, err := elf.NewFile(file)
		_ = file.Close()
		if err != nil {
			continue
		}
		if head.Machine != elf.EM_X86_64 {
			return refuse(protocol.FindingArchitecture, name, "install the 64-bit x86 edition of the system",
				"%s of the guest is for %s", name, machineName(head))
		}
		return nil
	}
	return nil
}

// machineNames are those that people know better than ELF's.
var machineNames = map[elf.Machine]string{elf.EM_386: "32-bit x86", elf.EM_AARCH64: "64-bit ARM", elf.EM_ARM: "32-bit ARM"}

func machineName(f *elf.File) string {
	if name, ok := machineNames[f.Machine]; ok {
		return name
	}
	return fmt.Sprint(f.Machine)
}
