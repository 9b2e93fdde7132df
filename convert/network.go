package convert

import (
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"rehost/protocol"
)

// networkFiles tell which program configures the network.
var networkFiles = []string{
	"/etc/network/interfaces", "/sbin/ifup", "/usr/sbin/ifup", "/usr/sbin/netplan",
	"/sbin/dhclient", "/usr/sbin/dhclient", "/sbin/udhcpc", "/usr/sbin/udhcpc", "/usr/bin/udhcpc", "/usr/sbin/dhcpcd", "/sbin/dhcpcd",
	"/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
	"/etc/systemd/system/multi-user.target.wants/NetworkManager.service",
	"/etc/systemd/system/multi-user.target.wants/wicked.service",
	"/etc/systemd/system/multi-user.target.wants/networking.service",
	"/etc/systemd/system/network.service",
	redhatDir,
}

// wants is where what is enabled for the normal running of a guest stands.
const wants = "/etc/systemd/system/multi-user.target.wants/"

func networkKind(f Facts) string {
	other := enabledNetwork(f)
	switch {
	case f.hasFile("/usr/sbin/netplan") && len(f.below("/etc/netplan", ".yaml")) > 0:
		return "netplan"
	case f.hasFile("/etc/network/interfaces") && (f.hasFile("/sbin/ifup") || f.hasFile("/usr/sbin/ifup")) && (other == "" || f.usesIfupdown()):
		return "ifupdown"
	case other != "":
		return other
	case f.hasFile(redhatDir):
		return "ifcfg"
	}
	return ""
}

// enabledNetwork is the service that is enabled to configure the network, beside ifupdown.
func enabledNetwork(f Facts) string {
	switch {
	case f.hasFile(wants + "NetworkManager.service"):
		return "NetworkManager"
	case f.hasFile(wants + "systemd-networkd.service"):
		return "systemd-networkd"
	case f.hasFile(wants + "wicked.service"), strings.HasSuffix(f.Files["/etc/systemd/system/network.service"].Link, "/wicked.service"):
		return "wicked"
	}
	return ""
}

// usesIfupdown says whether ifupdown is enabled and has a card to bring up. It may be installed beside what configures the network.
func (f Facts) usesIfupdown() bool {
	if !f.hasFile(wants + "networking.service") {
		return false
	}
	return slices.ContainsFunc(f.interfaces(), func(c card) bool { return c.name != "lo" })
}

// below returns the files that were found in a folder and end with suffix, sorted.
func (f Facts) below(dir, suffix string) []string {
	var found []string
	for _, p := range sortedKeys(f.Files) {
		if path.Dir(p) == dir && strings.HasSuffix(p, suffix) {
			found = append(found, p)
		}
	}
	return found
}

// rehostHead begins what the conversion writes.
const rehostHead = "# Written by rehost. The file that was here is kept in /var/lib/rehost/conversion.\n"

// hasMAC matches a network card's address in a rule or a configuration.
var hasMAC = regexp.MustCompile(`(?i)[0-9a-f]{2}(:[0-9a-f]{2}){5}`)

// network plans DHCP on the first card, whatever it is; with "keep" what ties the configuration to cards that are gone
// is removed, and the cards of EC2 get the names that it has.
func (p *planner) network() error {
	p.unpinCards()
	if p.set.Network != "dhcp" {
		p.nameCards()
		return nil
	}
	p.remove(cardRules, "addresses come from DHCP")
	const reason = "the network card and its address are another one in EC2: DHCP"
	const dhcp = "network:\n  version: 2\n  ethernets:\n    primary:\n      match: {name: \"e*\"}\n      dhcp4: true\n"
	switch p.facts.Guest.Network {
	case "ifupdown":
		if !p.hasClient() {
			p.refuse(protocol.FindingNoDHCP, "/etc/network/interfaces",
				"install isc-dhcp-client on the source, or set network = \"keep\" in the launch settings", "the guest has no DHCP client")
		}
		p.write("/etc/network/interfaces", rehostHead+"auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n", 0o644, reason)
	case "netplan":
		for _, file := range p.facts.below("/etc/netplan", ".yaml") {
			if file != "/etc/netplan/50-rehost.yaml" {
				p.remove(file, reason)
			}
		}
		p.write("/etc/netplan/50-rehost.yaml", rehostHead+dhcp, 0o600, reason)
	case "systemd-networkd":
		for _, file := range p.facts.below("/etc/systemd/network", ".network") {
			if file != "/etc/systemd/network/10-rehost.network" {
				p.remove(file, reason)
			}
		}
		p.write("/etc/systemd/network/10-rehost.network", rehostHead+"[Match]\nName=eth* en*\n\n[Network]\nDHCP=ipv4\n", 0o644, reason)
	case "NetworkManager":
		// Where interfaces are configured by ifcfg files, NetworkManager reads these: it is told in their way.
		if interfaces, _ := p.facts.ifcfgs(redhatDir); len(interfaces) > 0 {
			p.dhcpByIfcfg(redhatDir, redhatDHCP, reason)
			for _, old := range p.facts.keyfiles() {
				p.remove(old, reason)
			}
		} else {
			p.dhcpByKeyfile(reason)
		}
	case "ifcfg":
		p.dhcpByIfcfg(redhatDir, redhatDHCP, reason)
	case "wicked":
		p.dhcpByIfcfg(suseDir, suseDHCP, reason)
	default:
		p.refuse(protocol.FindingNetwork, "/etc", "set network = \"keep\" in the launch settings and configure DHCP on the source",
			"the guest's network is configured by %q, which cannot be changed to DHCP yet", p.facts.Guest.Network)
	}
	return nil
}

func (p *planner) hasClient() bool {
	return slices.ContainsFunc(networkFiles, func(f string) bool {
		base := path.Base(f)
		return p.facts.hasFile(f) && (base == "dhclient" || base == "udhcpc" || base == "dhcpcd")
	})
}

// unpinCards removes what gives names to network cards by address or slot.
func (p *planner) unpinCards() {
	const reason = "it names network cards that are gone"
	for _, file := range p.facts.below("/etc/udev/rules.d", ".rules") {
		text, _ := p.facts.text(file)
		if strings.Contains(path.Base(file), "persistent-net") || (strings.Contains(text, `SUBSYSTEM=="net"`) && hasMAC.MatchString(text)) {
			p.remove(file, reason)
		}
	}
	p.unpinConfigurations()
	for _, file := range p.facts.below("/etc/systemd/network", ".link") {
		if text, _ := p.facts.text(file); hasMAC.MatchString(text) {
			p.remove(file, reason)
		}
	}
}

// unpinConfigurations removes the hardware addresses of the old cards from files that stay.
func (p *planner) unpinConfigurations() {
	const reason = "it is tied to the hardware address of a network card that is gone"
	if p.set.Network == "dhcp" {
		return // they are replaced
	}
	edit := func(files []string, mode fs.FileMode, without func(string) string) {
		for _, file := range files {
			if text, ok := p.facts.text(file); ok {
				p.write(file, without(text), mode, reason)
			}
		}
	}
	for _, dir := range []string{redhatDir, suseDir} {
		interfaces, _ := p.facts.ifcfgs(dir)
		edit(interfaces, 0o644, withoutAddress)
	}
	edit(p.facts.keyfiles(), 0o600, withoutMAC)
	edit(p.facts.below("/etc/netplan", ".yaml"), 0o600, func(text string) string {
		now := withoutNetplanMAC(text)
		if hasMAC.MatchString(now) {
			p.warn(protocol.FindingCardNames, "/etc/netplan", "match the cards by their names in it, or set network = \"dhcp\" in the launch settings",
				"the kept network configuration is tied to hardware addresses of network cards that are gone, in a way that the conversion cannot change")
		}
		return now
	})
	edit(p.facts.below("/etc/systemd/network", ".network"), 0o644, withoutNetworkdMAC)
	edit(append([]string{"/etc/network/interfaces"}, p.facts.below("/etc/network/interfaces.d", "")...), 0o644, withoutHwaddress)
}

// withoutHwaddress returns an interfaces file that sets no hardware address.
func withoutHwaddress(text string) string {
	return withoutLines(text, func(line string) bool {
		words := strings.Fields(line)
		return len(words) > 1 && words[0] == "hwaddress" && hasMAC.MatchString(line)
	})
}

// withoutNetworkdMAC returns a .network file without hardware addresses; what matched by them alone matches any card.
func withoutNetworkdMAC(text string) string {
	isMAC := func(line string) bool {
		key, _, _ := strings.Cut(line, "=")
		return slices.Contains([]string{"MACAddress", "PermanentMACAddress"}, strings.TrimSpace(key))
	}
	matched := keyfileValue(text, "Match", "MACAddress") + keyfileValue(text, "Match", "PermanentMACAddress")
	out := withoutLines(text, isMAC)
	if matched != "" && keyfileValue(text, "Match", "Name") == "" {
		out = strings.Replace(out, "[Match]", "[Match]\nName=en* eth*", 1)
	}
	return out
}

// withoutLines returns a text without the lines that drop accepts.
func withoutLines(text string, drop func(line string) bool) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !drop(line) {
			out.WriteString(line)
		}
	}
	return out.String()
}
