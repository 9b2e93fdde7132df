package convert

import (
	"path"
	"strings"
)

// Where ifcfg files are: one a network interface, in Red Hat's dialect and in SUSE's.
const (
	redhatDir = "/etc/sysconfig/network-scripts"
	suseDir   = "/etc/sysconfig/network"
)

// ifcfgs returns the interface files of a folder but those of the loopback, and the routes and rules that go with them.
func (f Facts) ifcfgs(dir string) (interfaces, routes []string) {
	for _, file := range f.below(dir, "") {
		name := path.Base(file)
		kind, device, _ := strings.Cut(name, "-")
		switch {
		// What is no configuration: programs of the distribution, and what editors and packages leave.
		case !f.Files[file].Mode.IsRegular(), device == "lo", device == "lo-range", strings.Contains(name, ".rpm"), strings.HasSuffix(name, "~"), strings.HasSuffix(name, ".bak"):
		case kind == "ifcfg" && device != "" && !strings.HasSuffix(device, ".template"):
			interfaces = append(interfaces, file)
		case name == "routes", device != "" && (kind == "route" || kind == "route6" || kind == "rule" || kind == "rule6" || kind == "ifroute" || kind == "keys"):
			routes = append(routes, file)
		}
	}
	return interfaces, routes
}

// dhcpByIfcfg replaces all interfaces by eth0 with DHCP.
func (p *planner) dhcpByIfcfg(dir, content, reason string) {
	file := path.Join(dir, "ifcfg-eth0")
	interfaces, routes := p.facts.ifcfgs(dir)
	for _, old := range append(interfaces, routes...) {
		if old != file {
			p.remove(old, reason)
		}
	}
	p.write(file, rehostHead+content, 0o644, reason)
}

const (
	redhatDHCP = "DEVICE=eth0\nNAME=eth0\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=dhcp\nPERSISTENT_DHCLIENT=yes\nPEERDNS=yes\nIPV6INIT=yes\n"
	suseDHCP   = "STARTMODE='auto'\nBOOTPROTO='dhcp'\n"
)

// withoutAddress returns an ifcfg file without what ties it to a card's hardware address.
func withoutAddress(text string) string {
	return withoutLines(text, func(line string) bool {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "=")
		return name == "HWADDR" || name == "MACADDR" || name == "LLADDR"
	})
}
