package convert

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// grubDir has further settings of grub-mkconfig.
const grubDir = "/etc/default/grub.d"

const bootReason = "boot on EC2: serial console, NVMe timeout, root by UUID, names of network cards, no long wait at the menu"

// grub plans GRUB's configuration: the one in use, and the one that later updates are made from.
func (p *planner) grub() error {
	if p.facts.Boot.Loader != LoaderGRUB {
		return nil
	}
	for _, file := range p.facts.grubConfigs() {
		text, _ := p.facts.text(file)
		p.write(file, p.grubCfg(text), 0o600, bootReason)
	}
	p.bls(bootReason, entriesDir)
	p.grubEnv()
	if text, ok := p.facts.text("/etc/default/grub"); ok {
		p.write("/etc/default/grub", p.grubDefault(text), 0o644, "later updates of GRUB's configuration keep these settings")
	}
	// Later files there win over /etc/default/grub, in Debian's and Ubuntu's grub-mkconfig.
	for _, file := range p.facts.below(grubDir, ".cfg") {
		if text, ok := p.facts.text(file); ok {
			now, _ := p.grubAssignments(text)
			p.write(file, now, 0o644, "later updates of GRUB's configuration keep these settings")
		}
	}
	p.kernelCmdline()
	for _, file := range []string{"/boot/grub/device.map", "/boot/grub2/device.map"} {
		p.remove(file, "it names disks of the old hypervisor")
	}
	return nil
}

// kernelCmdline plans what kernel-install gives to the entries of later kernels.
func (p *planner) kernelCmdline() {
	const file = "/etc/kernel/cmdline"
	text, ok := p.facts.text(file)
	if args := strings.Fields(text); ok {
		if now := p.commandLine(args, ""); !slices.Equal(now, args) {
			p.write(file, strings.Join(now, " ")+"\n", 0o644, "entries of later kernels get this command line")
		}
	}
}

// grubEnv plans the environment block: the command line that RHEL 8 keeps in it, and another default entry.
func (p *planner) grubEnv() {
	file, text := p.facts.grubEnvFile(), p.facts.grubEnv()
	values := map[string]string{}
	env := parseGrubEnv(text)
	for _, name := range []string{"kernelopts", "default_kernelopts"} {
		if opts := env[name]; opts != "" {
			if now := p.commandLine(strings.Fields(opts), ""); !slices.Equal(now, strings.Fields(opts)) {
				values[name] = strings.Join(now, " ")
			}
		}
	}
	if p.chosen != nil {
		values["next_entry"] = ""
		if p.facts.Boot.Chosen == savedEntry {
			// SUSE keeps a second block outside the filesystem, where this one names it.
			values["saved_entry"], values["prev_saved_entry"], values["env_block"] = p.chosen.ID, "", ""
		}
	}
	if now := setGrubEnv(text, values); now != text {
		p.write(file, now, 0o644, "GRUB starts the right kernel with the right command line")
	}
}

// serialMark is in the line that makes GRUB itself use the serial port.
const serialMark = "# rehost: the menu on the serial console too"

// grubCfg returns a grub.cfg as EC2 needs it, without grub-mkconfig, which is a program of the guest.
func (p *planner) grubCfg(text string) string {
	var out strings.Builder
	marked := strings.Contains(text, serialMark)
	for line := range strings.Lines(text) {
		body := strings.TrimSuffix(line, "\n")
		indent := body[:len(body)-len(strings.TrimLeft(body, " \t"))]
		words := strings.Fields(body)
		switch {
		case len(words) > 1 && isLinux(words[0]):
			out.WriteString(p.linuxLine(body, words) + "\n")
		case len(words) == 2 && words[0] == "set" && isLongTimeout(words[1]):
			out.WriteString(indent + "set timeout=1\n")
		case len(words) > 1 && words[0] == "set" && isKernelOpts(words[1]):
			out.WriteString(indent + p.kernelOpts(body) + "\n")
		case len(words) > 1 && words[0] == "set" && p.chosen != nil && p.isLiteralDefault(words[1]):
			out.WriteString(indent + `set default="` + p.chosen.ID + "\"\n")
		case len(words) == 2 && words[0] == "terminal_output" && words[1] == "gfxterm":
			out.WriteString(indent + "terminal_output console\n")
		case strings.HasPrefix(body, "### END /etc/grub.d/00_header") && p.hasSerial() && !marked:
			out.WriteString(serialMark + "\nif serial --unit=0 --speed=115200; then\n  terminal_input --append serial\n" +
				"  terminal_output --append serial\nfi\n" + line)
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

func (p *planner) hasSerial() bool {
	return p.facts.hasFile("/boot/grub/i386-pc/serial.mod") || p.facts.hasFile("/boot/grub2/i386-pc/serial.mod")
}

// linuxLine returns the line that loads a kernel; all before the arguments stays as it is.
func (p *planner) linuxLine(body string, words []string) string {
	version := p.facts.versionOf(words[1])
	args := p.commandLine(words[2:], version)
	if slices.Equal(args, words[2:]) {
		return body
	}
	image := strings.Index(body, words[0]) + len(words[0])
	image += strings.Index(body[image:], words[1]) + len(words[1])
	return body[:image] + " " + strings.Join(args, " ")
}

// versionOf returns the version of an installed kernel by what GRUB calls its image; empty when it cannot be told.
func (f Facts) versionOf(image string) string {
	for _, k := range f.Kernels {
		if strings.HasSuffix(image, "-"+k.Version) {
			return k.Version
		}
	}
	for _, e := range f.Boot.Entries { // such as Arch Linux's vmlinuz-linux
		if path.Base(e.Image) == path.Base(image) {
			return e.Kernel
		}
	}
	return ""
}

// isKernelOpts matches RHEL 8's command line for entries, where grubenv has none.
func isKernelOpts(assignment string) bool {
	return strings.HasPrefix(assignment, "kernelopts=") || strings.HasPrefix(assignment, "default_kernelopts=")
}

func (p *planner) kernelOpts(body string) string {
	name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(body), "set "), "=")
	args := strings.Fields(strings.Trim(value, `"'`))
	if len(args) == 0 || strings.HasPrefix(args[0], "$") {
		return strings.TrimSpace(body) // a copy of another variable
	}
	return "set " + strings.TrimSpace(name) + `="` + strings.Join(p.commandLine(args, ""), " ") + `"`
}

// isLiteralDefault says whether an assignment gives the default entry itself, not a variable of grubenv.
func (p *planner) isLiteralDefault(assignment string) bool {
	v, ok := strings.CutPrefix(assignment, "default=")
	return ok && !strings.Contains(v, "${") && p.facts.Boot.Chosen != savedEntry
}

func isLongTimeout(assignment string) bool {
	v, ok := strings.CutPrefix(assignment, "timeout=")
	n, err := strconv.Atoi(v)
	return ok && err == nil && (n > 1 || n < 0)
}

// grubSettings are those of grub-mkconfig besides the command line.
func (p *planner) grubSettings() map[string]string {
	set := map[string]string{
		"GRUB_TIMEOUT":        "1",
		"GRUB_TERMINAL":       `"console serial"`,
		"GRUB_SERIAL_COMMAND": `"serial --unit=0 --speed=115200"`,
	}
	if p.chosen != nil && p.facts.Boot.Chosen != savedEntry {
		set["GRUB_DEFAULT"] = `"` + p.chosen.ID + `"`
	}
	return set
}

// grubDefault returns the settings of grub-mkconfig with all that EC2 needs.
func (p *planner) grubDefault(text string) string {
	result, seen := p.grubAssignments(text)
	if result != "" && !strings.HasSuffix(result, "\n") {
		result += "\n"
	}
	if !seen["GRUB_CMDLINE_LINUX"] {
		result += `GRUB_CMDLINE_LINUX="` + strings.Join(p.commandLine(nil, ""), " ") + "\"\n"
	}
	set := p.grubSettings()
	for _, name := range sortedKeys(set) {
		if !seen[name] {
			result += name + "=" + set[name] + "\n"
		}
	}
	return result
}

// grubAssignments changes what a file of settings gives to variables, and says which it has.
func (p *planner) grubAssignments(text string) (result string, seen map[string]bool) {
	var out strings.Builder
	seen = map[string]bool{}
	set := p.grubSettings()
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			out.WriteString(line)
			continue
		}
		switch name {
		case "GRUB_CMDLINE_LINUX_DEFAULT":
			// All arguments that we add go to GRUB_CMDLINE_LINUX, which recovery entries use too.
			line = name + `="` + strings.Join(p.keptArguments(value), " ") + "\"\n"
		case "GRUB_CMDLINE_LINUX":
			line = name + `="` + strings.Join(p.commandLine(strings.Fields(strings.Trim(value, `"'`)), ""), " ") + "\"\n"
		default:
			if v, ok := set[name]; ok {
				line = name + "=" + v + "\n"
			}
		}
		seen[name] = true
		out.WriteString(line)
	}
	return out.String(), seen
}

// keptArguments returns what stays of GRUB_CMDLINE_LINUX_DEFAULT.
func (p *planner) keptArguments(value string) []string {
	var keep []string
	added := p.commandLine(nil, "")
	for _, a := range p.commandLine(strings.Fields(strings.Trim(value, `"'`)), "") {
		if !slices.Contains(added, a) {
			keep = append(keep, a)
		}
	}
	return keep
}
