package convert

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"rehost/protocol"
)

// card is a network card as the guest's configuration names it.
type card struct {
	name    string
	gateway bool // the default route goes through it, as far as its configuration says
}

// cardRules gives the cards of EC2 the names of the source.
const cardRules = "/etc/udev/rules.d/70-rehost-cards.rules"

var (
	// cardName matches a name that can be a card's; what is stranger is not written into a rule.
	cardName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,14}$`)
	// virtualName matches what is made of cards, or of none.
	virtualName = regexp.MustCompile(`^(lo$|bond|br|virbr|vmbr|team|vlan|vxlan|tun|tap|wg|docker|veth|dummy|ppp|sit|ib|wl)`)
	kernelName  = regexp.MustCompile(`^eth(\d{1,2})$`)
)

// cards returns the network cards that the configuration names, the one with the default route first. Where nothing is
// named, or by a pattern, any card will do and the list is empty.
func (f Facts) cards() []card {
	var found []card
	switch f.Guest.Network {
	case "ifupdown":
		found = f.interfaces()
	case "netplan":
		for _, file := range f.below("/etc/netplan", ".yaml") {
			text, _ := f.text(file)
			found = append(found, netplanCards(text)...)
		}
	case "systemd-networkd":
		found = f.networkdCards()
	case "wicked":
		found = f.ifcfgCards(suseDir)
	case "ifcfg":
		found = f.ifcfgCards(redhatDir)
	case "NetworkManager":
		found = f.ifcfgCards(redhatDir)
		for _, file := range f.keyfiles() {
			text, _ := f.text(file)
			if kind := keyfileValue(text, "connection", "type"); kind == "ethernet" || kind == "802-3-ethernet" {
				gateway := keyfileValue(text, "ipv4", "gateway") != "" || strings.Contains(keyfileValue(text, "ipv4", "address1"), ",")
				found = append(found, card{keyfileValue(text, "connection", "interface-name"), gateway})
			}
		}
	}
	var out []card
	for _, c := range found {
		same := func(o card) bool { return o.name == c.name }
		if i := slices.IndexFunc(out, same); i >= 0 {
			out[i].gateway = out[i].gateway || c.gateway
		} else if cardName.MatchString(c.name) && !virtualName.MatchString(c.name) {
			out = append(out, c)
		}
	}
	slices.SortStableFunc(out, func(a, b card) int {
		switch {
		case a.gateway != b.gateway && a.gateway:
			return -1
		case a.gateway != b.gateway:
			return 1
		}
		return cmp.Or(cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name)) // ens224 before ens1024
	})
	return out
}

// nameCards plans that the cards of EC2 get the names that the configuration has. Their addresses and slots are not known
// before the launch, but their order is: with the kernel's own names, the first interface of the instance is eth0.
func (p *planner) nameCards() {
	p.cards = p.facts.cards()
	if len(p.cards) == 0 {
		return
	}
	kernel := make([]string, len(p.cards)) // the card's name by its number
	var others []string
	for _, c := range p.cards {
		// A name of the kernel's stays with its card: two cards cannot swap names.
		if n, ok := kernelNumber(c.name); ok && n < len(kernel) && kernel[n] == "" {
			kernel[n] = c.name
		} else {
			others = append(others, c.name)
		}
	}
	var rules strings.Builder
	for n, name := range kernel {
		if name != "" {
			continue
		}
		kernel[n], others = others[0], others[1:]
		fmt.Fprintf(&rules, `SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{type}=="1", KERNEL=="eth%d", NAME="%s"`+"\n", n, kernel[n])
	}
	if rules.Len() > 0 {
		p.write(cardRules, rehostHead+rules.String(), 0o644, "the network cards of EC2 get the names that the kept configuration has, in their order")
	}
	if names := strings.Join(kernel, ", "); len(kernel) > 1 {
		p.warn(protocol.FindingCardNames, names, fmt.Sprintf("give the launch settings %d network_interface blocks, in this order", len(kernel)-1),
			"the kept network configuration has several network cards: those of the instance are called %s, in their order", names)
	} else {
		p.note(protocol.FindingCardNames, names, "the first network interface of the instance is called %s, as in the kept configuration", names)
	}
}

func kernelNumber(name string) (int, bool) {
	m := kernelName.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	return number(m[1]), true
}

// interfaces returns the cards that ifupdown is told of, the loopback too.
func (f Facts) interfaces() (found []card) {
	for _, file := range append([]string{"/etc/network/interfaces"}, f.below("/etc/network/interfaces.d", "")...) {
		text, _ := f.text(file)
		found = append(found, ifupdownCards(text)...)
	}
	return found
}

// ifupdownCards returns the cards of an interfaces file: those of iface stanzas that are no bond, bridge or VLAN, and those that these are made of.
func ifupdownCards(text string) []card {
	var found []card
	made := map[string]bool{} // of other cards
	at := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		option := strings.ReplaceAll(words[0], "_", "-")
		switch {
		case option == "iface":
			at = words[1]
			found = append(found, card{name: at})
		case at == "":
		case option == "gateway":
			found = append(found, card{at, true})
		case option == "bond-slaves", option == "slaves", option == "bridge-ports":
			made[at] = true
			for _, w := range words[1:] {
				if w != "none" && w != "all" {
					found = append(found, card{name: w})
				}
			}
		case option == "vlan-raw-device", option == "bond-mode":
			made[at] = true
		}
	}
	return slices.DeleteFunc(found, func(c card) bool { return made[c.name] })
}

// ifcfgCards returns the cards of the ifcfg files in a folder.
func (f Facts) ifcfgCards(dir string) []card {
	var found []card
	interfaces, _ := f.ifcfgs(dir)
	for _, file := range interfaces {
		text, _ := f.text(file)
		kind := strings.ToLower(shellValue(text, "TYPE"))
		made := shellValue(text, "BONDING_MASTER") + shellValue(text, "VLAN") + shellValue(text, "ETHERDEVICE")
		if (kind != "" && kind != "ethernet") || made != "" && made != "no" || shellValue(text, "BRIDGE") == "yes" {
			continue
		}
		name := shellValue(text, "DEVICE")
		if name == "" {
			name = strings.TrimPrefix(path.Base(file), "ifcfg-")
		}
		found = append(found, card{name, shellValue(text, "GATEWAY") != ""})
	}
	return found
}

// networkdCards returns the cards that .network files match by name, without those that .netdev files make.
func (f Facts) networkdCards() []card {
	const dir = "/etc/systemd/network"
	var found []card
	for _, file := range f.below(dir, ".network") {
		text, _ := f.text(file)
		for name := range strings.FieldsSeq(keyfileValue(text, "Match", "Name")) {
			found = append(found, card{name, keyfileValue(text, "Network", "Gateway") != "" || keyfileValue(text, "Route", "Gateway") != ""})
		}
	}
	for _, file := range f.below(dir, ".netdev") {
		text, _ := f.text(file)
		made := keyfileValue(text, "NetDev", "Name")
		found = slices.DeleteFunc(found, func(c card) bool { return c.name == made })
	}
	return found
}
