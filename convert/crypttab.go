package convert

import (
	"strings"

	"rehost/protocol"
)

// crypttab plans stable names for encrypted devices, and keeps those that are not attached from stopping the boot.
func (p *planner) crypttab() error {
	const file = "/etc/crypttab"
	text, ok := p.facts.text(file)
	if !ok {
		return nil
	}
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(p.crypttabLine(line))
	}
	p.write(file, out.String(), 0o600, "device names change in EC2, and a missing device must not stop the boot")
	return nil
}

// crypttabLine returns a line: name, device, key file, options.
func (p *planner) crypttabLine(line string) string {
	fields := strings.Fields(line)
	if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
		return line
	}
	device := fields[1]
	s, found, known := p.facts.bySpec(device)
	switch {
	case !known:
		return line
	case !found:
		if len(fields) < 3 {
			fields = append(fields, "none")
		}
		if len(fields) < 4 {
			fields = append(fields, "luks")
		}
		if hasOption(fields[3], "nofail") {
			return line
		}
		p.warn(protocol.FindingFstabMissing, "/dev/mapper/"+fields[0], "add its disk to the server's disks, or take the line out of crypttab on the source",
			"crypttab opens %s as %s, which is on none of the replicated disks; the boot will not wait for it", device, fields[0])
		fields[3] = withOptions(fields[3], "nofail")
	case !oldName.MatchString(device):
		return line
	case s.UUID != "":
		fields[1] = "UUID=" + s.UUID
	case s.PartUUID != "": // such as swap with a key of each boot, which has no UUID of its own
		fields[1] = "PARTUUID=" + s.PartUUID
	default:
		return line
	}
	return strings.Join(fields, " ") + "\n"
}
