package convert

import (
	"slices"
	"strings"
)

// keyfileDir has NetworkManager's connections, one a file.
const keyfileDir = "/etc/NetworkManager/system-connections"

const keyfileDHCP = `[connection]
id=rehost
uuid=5f0c1a52-6a1d-4b2e-9d0e-7e6f52a0c001
type=ethernet
autoconnect=true
multi-connect=3

[ipv4]
method=auto

[ipv6]
method=auto
`

// wired are the types of connections that carry a server's addresses, or are made of network cards.
var wired = []string{"ethernet", "802-3-ethernet", "bond", "bridge", "team", "vlan"}

// keyfileValue returns what a keyfile gives a name in a section; the last one counts.
func keyfileValue(text, section, name string) (value string) {
	in := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			in = line[1 : len(line)-1]
			continue
		}
		if key, v, ok := strings.Cut(line, "="); ok && in == section && strings.TrimSpace(key) == name {
			value = strings.TrimSpace(v)
		}
	}
	return value
}

// keyfiles returns the connections that are wired. Others, such as VPNs, have nothing to do with the cards.
func (f Facts) keyfiles() []string {
	return slices.DeleteFunc(f.below(keyfileDir, ""), func(file string) bool {
		text, ok := f.text(file)
		return !ok || !slices.Contains(wired, keyfileValue(text, "connection", "type"))
	})
}

// dhcpByKeyfile replaces all wired connections by DHCP on every card.
func (p *planner) dhcpByKeyfile(reason string) {
	const file = keyfileDir + "/rehost.nmconnection"
	for _, old := range p.facts.keyfiles() {
		if old != file {
			p.remove(old, reason)
		}
	}
	p.write(file, rehostHead+keyfileDHCP, 0o600, reason) // NetworkManager reads no file that others can read
}

// withoutMAC returns a keyfile without what ties it to a card's hardware address.
func withoutMAC(text string) string {
	return withoutLines(text, func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		return slices.Contains([]string{"mac-address", "cloned-mac-address", "permanent-mac-address"}, strings.TrimSpace(key))
	})
}
