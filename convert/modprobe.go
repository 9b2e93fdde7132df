package convert

import (
	"slices"
	"strings"
)

// modprobeDir has the administrator's settings of kernel modules.
const modprobeDir = "/etc/modprobe.d"

// modprobe plans that no setting keeps the drivers of EC2 from being loaded.
func (p *planner) modprobe() error {
	for _, file := range p.facts.below(modprobeDir, ".conf") {
		if text, ok := p.facts.text(file); ok {
			p.write(file, loadable(text), 0o644, "the disks and the network card of EC2 need this driver")
		}
	}
	return nil
}

// loadable returns settings of kernel modules that keep none of the drivers of EC2 from being loaded.
func loadable(text string) string {
	const mark = "# rehost: EC2 needs it: "
	var out strings.Builder
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) > 1 && (words[0] == "blacklist" || words[0] == "install" && len(words) > 2 && isNothing(words[2])) && isNeeded(words[1]) {
			line = mark + line
		}
		out.WriteString(line)
	}
	return out.String()
}

// isNothing says whether a program does nothing, and so keeps a module from being loaded when it stands in for that.
func isNothing(program string) bool {
	return slices.Contains([]string{"/bin/true", "/bin/false", "/usr/bin/true", "/usr/bin/false", "/dev/null", ":"}, program)
}

// isNeeded says whether a module is one of the drivers of EC2.
func isNeeded(module string) bool {
	return slices.Contains([]string{"nvme", "nvme_core", "ena"}, strings.ReplaceAll(module, "-", "_"))
}
