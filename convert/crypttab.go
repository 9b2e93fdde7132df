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
	fixed, lost := p.facts.fixCrypttab(text)
	for _, l := range lost {
		p.warn(protocol.FindingFstabMissing, "/dev/mapper/"+l.name, "add its disk to the server's disks, or take the line out of crypttab on the source",
			"crypttab opens %s as %s, which is on none of the replicated disks; the boot will not wait for it", l.device, l.name)
	}
	p.write(file, fixed, 0o600, "device names change in EC2, and a missing device must not stop the boot")
	return nil
}

// mapping is an encrypted device and the name that it is opened by.
type mapping struct{ name, device string }

// fixCrypttab returns a crypttab as EC2 needs it, and what it opens that is on none of the disks.
func (f Facts) fixCrypttab(text string) (fixed string, lost []mapping) {
	var out strings.Builder
	for line := range strings.Lines(text) {
		now, found := f.crypttabLine(line)
		out.WriteString(now)
		if words := strings.Fields(now); !found && now != line {
			lost = append(lost, mapping{words[0], words[1]})
		}
	}
	return out.String(), lost
}

// crypttabLine returns a line (name, device, key file, options), and whether its device is attached, as far as that is known.
func (f Facts) crypttabLine(line string) (fixed string, found bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
		return line, true
	}
	s, found, known := f.bySpec(fields[1])
	switch {
	case !known && !f.gone(fields[1]):
		return line, true
	case !found:
		fields = append(fields, []string{"none", "luks"}[min(2, len(fields)-2):]...)
		if hasOption(fields[3], "nofail") {
			return line, false
		}
		fields[3] = withOptions(fields[3], "nofail")
	case !isOldDevice(fields[1]):
		return line, true
	case s.UUID != "":
		fields[1] = "UUID=" + s.UUID
	case s.PartUUID != "": // such as swap with a key of each boot, which has no UUID of its own
		fields[1] = "PARTUUID=" + s.PartUUID
	default:
		return line, true
	}
	return strings.Join(fields, " ") + "\n", found
}
