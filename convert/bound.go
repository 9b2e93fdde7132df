package convert

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"rehost/protocol"
)

// Where else than in the network's configuration an address or the name of a card may stand, so that nobody reaches the server
// when they change: what sshd listens at, and rules of firewalls that are loaded from files.
const (
	sshdConfig = "/etc/ssh/sshd_config"
	sshdDir    = "/etc/ssh/sshd_config.d"
)

var (
	boundFiles    = append([]string{sshdConfig}, firewallFiles...)
	firewallFiles = []string{
		"/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables", "/etc/iptables/rules.v4", "/etc/iptables/rules.v6",
		"/etc/nftables.conf", "/etc/sysconfig/nftables.conf", "/etc/ufw/user.rules", "/etc/ufw/before.rules",
	}
	// ruleCard matches the card that packets come in by, in rules of iptables and of nftables.
	ruleCard = regexp.MustCompile(`(?m)^[^#\n]*?(?:-i|--in-interface|iif|iifname)\s+"?([A-Za-z][A-Za-z0-9_.-]*)"?(?:\s|$)`)
)

// boundServices says what is bound to an address or a card that will not be there. Which service shall be reached from where is
// not for a conversion to decide, so nothing is changed.
func (p *planner) boundServices() error {
	if p.set.Network != "dhcp" {
		return nil
	}
	var sshd strings.Builder
	for _, file := range append(p.facts.below(sshdDir, ".conf"), sshdConfig) {
		text, _ := p.facts.text(file)
		sshd.WriteString(text + "\n")
	}
	if a := listenAddress(sshd.String()); a != "" {
		p.warn(protocol.FindingBound, sshdConfig, "let sshd listen at all addresses on the source, or set network = \"keep\" in the launch settings",
			"sshd listens at %s alone, which the instance will not have: it will not answer SSH", a)
	}
	for _, file := range firewallFiles {
		text, _ := p.facts.text(file)
		if cards := ruleCards(text); len(cards) > 0 {
			p.warn(protocol.FindingBound, file, "write the rules for eth0, or for any card, on the source, or set network = \"keep\" in the launch settings",
				"rules of the firewall name %s, and the card of the instance is called eth0", strings.Join(cards, ", "))
		}
	}
	return nil
}

// listenAddress returns the address of a server that sshd is bound to; empty when it listens at any address, too.
func listenAddress(text string) (bound string) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 || !strings.EqualFold(words[0], "ListenAddress") {
			continue
		}
		a, err := netip.ParseAddr(strings.Trim(words[1], "[]"))
		if both, e := netip.ParseAddrPort(words[1]); err != nil && e == nil {
			a, err = both.Addr(), nil
		}
		switch {
		case err != nil, a.IsLoopback(): // a name, which may mean anything
		case a.IsUnspecified():
			return ""
		case bound == "":
			bound = words[1]
		}
	}
	return bound
}

// ruleCards returns the cards that rules name, but those that will be there.
func ruleCards(text string) []string {
	var found []string
	for _, m := range ruleCard.FindAllStringSubmatch(text, -1) {
		if name := m[1]; name != "eth0" && cardName.MatchString(name) && !virtualName.MatchString(name) && !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}
