package convert

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// TestDHCPInEachWay converts a guest whose network is configured in each of the ways that distributions have.
func TestDHCPInEachWay(t *testing.T) {
	const nm, wicked = "/etc/systemd/system/multi-user.target.wants/NetworkManager.service", "/etc/systemd/system/network.service"
	static := "TYPE=Ethernet\nBOOTPROTO=none\nDEVICE=ens192\nHWADDR=00:50:56:9a:11:22\nIPADDR=10.0.0.5\n"
	for name, c := range map[string]struct {
		files          map[string]string
		links          map[string]string
		removed, gone  []string // gone is what must not be planned at all
		written, holds string
		kept           string // what the written file says in the mode keep
	}{
		"NetworkManager": {
			files: map[string]string{
				keyfileDir + "/ens192.nmconnection": "[connection]\nid=ens192\ntype=ethernet\ninterface-name=ens192\n\n[ethernet]\nmac-address=00:50:56:9A:11:22\n\n[ipv4]\nmethod=manual\naddress1=10.0.0.5/24,10.0.0.1\n",
				keyfileDir + "/bond0.nmconnection":  "[connection]\nid=bond0\ntype=bond\n",
				keyfileDir + "/office.nmconnection": "[connection]\nid=office\ntype=vpn\n",
			},
			links:   map[string]string{nm: "/usr/lib/systemd/system/NetworkManager.service"},
			removed: []string{keyfileDir + "/ens192.nmconnection", keyfileDir + "/bond0.nmconnection"}, gone: []string{keyfileDir + "/office.nmconnection"},
			written: keyfileDir + "/rehost.nmconnection", holds: "method=auto",
			kept: keyfileDir + "/ens192.nmconnection",
		},
		"NetworkManager with ifcfg files": {
			files:   map[string]string{redhatDir + "/ifcfg-ens192": static, redhatDir + "/ifcfg-lo": "DEVICE=lo\n", redhatDir + "/route-ens192": "10.1.0.0/16 via 10.0.0.2\n", redhatDir + "/ifup-eth": "#!/bin/sh\n"},
			links:   map[string]string{nm: "/usr/lib/systemd/system/NetworkManager.service"},
			removed: []string{redhatDir + "/ifcfg-ens192", redhatDir + "/route-ens192"}, gone: []string{redhatDir + "/ifcfg-lo", redhatDir + "/ifup-eth"},
			written: redhatDir + "/ifcfg-eth0", holds: "BOOTPROTO=dhcp",
			kept: redhatDir + "/ifcfg-ens192",
		},
		"ifcfg": {
			files:   map[string]string{redhatDir + "/ifcfg-eth0": static},
			written: redhatDir + "/ifcfg-eth0", holds: "BOOTPROTO=dhcp",
			kept: redhatDir + "/ifcfg-eth0",
		},
		"wicked": {
			files:   map[string]string{suseDir + "/ifcfg-eth1": "BOOTPROTO='static'\nLLADDR='00:50:56:9a:11:22'\nIPADDR='10.0.0.5/24'\n", suseDir + "/ifcfg-lo": "NAME='loopback'\n", suseDir + "/routes": "default 10.0.0.1 - -\n", suseDir + "/config": "NETCONFIG_DNS_POLICY='auto'\n", suseDir + "/ifcfg.template": "BOOTPROTO=''\n"},
			links:   map[string]string{wicked: "/usr/lib/systemd/system/wicked.service"},
			removed: []string{suseDir + "/ifcfg-eth1", suseDir + "/routes"}, gone: []string{suseDir + "/ifcfg-lo", suseDir + "/config", suseDir + "/ifcfg.template"},
			written: suseDir + "/ifcfg-eth0", holds: "BOOTPROTO='dhcp'",
			kept: suseDir + "/ifcfg-eth1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			plan := func(mode string) *planner {
				f := Facts{Files: map[string]File{redhatDir: {Mode: 1 << 31}}}
				for p, text := range c.files {
					f.Files[p] = File{Data: []byte(text), Sum: sum([]byte(text)), Size: int64(len(text))}
				}
				for p, to := range c.links {
					f.Files[p] = File{Link: to, Mode: 1 << 27}
				}
				f.Guest.Network = networkKind(f)
				p := &planner{facts: f, set: protocol.ConversionSettings{Network: mode}}
				if err := p.network(); err != nil || mode == "dhcp" && len(p.findings) > 0 {
					t.Fatalf("%v, %+v", err, p.findings)
				}
				return p
			}
			p := plan("dhcp")
			for _, path := range c.removed {
				if !slices.ContainsFunc(p.edits, func(e Edit) bool { return e.Path == path && e.Action == ActionRemove }) {
					t.Errorf("%s stays", path)
				}
			}
			for _, e := range p.edits {
				if slices.Contains(c.gone, e.Path) {
					t.Errorf("%s %s: it has nothing to do with the cards", e.Action, e.Path)
				}
			}
			if !slices.ContainsFunc(p.edits, func(e Edit) bool { return e.Path == c.written && strings.Contains(string(e.Data), c.holds) }) {
				t.Errorf("%s with %q is not written: %+v", c.written, c.holds, p.edits)
			}
			p = plan("keep")
			p.edits = slices.DeleteFunc(p.edits, func(e Edit) bool { return e.Path == cardRules })
			if len(p.edits) != 1 || p.edits[0].Path != c.kept || hasMAC.Match(p.edits[0].Data) || !strings.Contains(string(p.edits[0].Data), "10.0.0.5") {
				t.Errorf("kept addresses: %+v", p.edits)
			}
		})
	}
}

// keep plans the mode keep for a guest with these files.
func keep(network string, files map[string]string) *planner {
	f := Facts{Files: map[string]File{}}
	for p, text := range files {
		f.Files[p] = File{Data: []byte(text), Sum: sum([]byte(text)), Size: int64(len(text))}
	}
	f.Guest.Network = network
	p := &planner{facts: f, set: protocol.ConversionSettings{Network: "keep"}}
	p.unpinCards()
	p.nameCards()
	return p
}

func TestKeptConfigurationFindsItsCards(t *testing.T) {
	rule := func(n, name string) string {
		return `SUBSYSTEM=="net", ACTION=="add", DRIVERS=="?*", ATTR{type}=="1", KERNEL=="eth` + n + `", NAME="` + name + "\"\n"
	}
	for name, c := range map[string]struct {
		network string
		files   map[string]string
		rules   string
		edited  map[string]string
		subject string
	}{
		"the card with the default route is the first": {
			network: "ifupdown",
			files: map[string]string{"/etc/network/interfaces": "auto lo\niface lo inet loopback\niface ens192 inet static\n  address 10.1.0.5/24\n  hwaddress ether 00:50:56:9a:11:22\n" +
				"iface ens224 inet static\n\taddress 10.0.0.5/24\n\tgateway 10.0.0.1\niface ens224:1 inet static\niface ens224.7 inet static\n"},
			rules: rule("0", "ens224") + rule("1", "ens192"),
			edited: map[string]string{"/etc/network/interfaces": "auto lo\niface lo inet loopback\niface ens192 inet static\n  address 10.1.0.5/24\n" +
				"iface ens224 inet static\n\taddress 10.0.0.5/24\n\tgateway 10.0.0.1\niface ens224:1 inet static\niface ens224.7 inet static\n"},
			subject: "ens224, ens192",
		},
		"members of a bond": {
			network: "ifupdown",
			files:   map[string]string{"/etc/network/interfaces": "iface uplink inet static\n  bond-slaves eno1 eno2\n  gateway 10.0.0.1\n"},
			rules:   rule("0", "eno1") + rule("1", "eno2"), subject: "eno1, eno2",
		},
		"names of the kernel stay with their cards": {
			network: "ifcfg",
			files:   map[string]string{redhatDir + "/ifcfg-eth0": "DEVICE=eth0\n", redhatDir + "/ifcfg-eth1": "DEVICE=eth1\nGATEWAY=10.0.0.1\n"},
			subject: "eth0, eth1",
		},
		"the only card is the second": {
			network: "ifcfg", files: map[string]string{redhatDir + "/ifcfg-eth1": "DEVICE=eth1\nTYPE=Ethernet\n", redhatDir + "/ifcfg-br9": "TYPE=Bridge\n"},
			rules: rule("0", "eth1"), subject: "eth1",
		},
		"netplan by address, as cloud-init writes it": {
			network: "netplan",
			files: map[string]string{"/etc/netplan/50-cloud-init.yaml": "network:\n    version: 2\n    ethernets:\n        ens160:\n            dhcp4: true\n            match:\n" +
				"                macaddress: 00:50:56:9a:11:22\n            set-name: ens160\n    bonds:\n        bond0: {interfaces: [ens160]}\n"},
			rules: rule("0", "ens160"), subject: "ens160",
			edited: map[string]string{"/etc/netplan/50-cloud-init.yaml": "network:\n    version: 2\n    ethernets:\n        ens160:\n            dhcp4: true\n            match:\n" +
				"                name: \"ens160\"\n            set-name: ens160\n    bonds:\n        bond0: {interfaces: [ens160]}\n"},
		},
		"netplan by address alone": {
			network: "netplan",
			files:   map[string]string{"/etc/netplan/1.yaml": "network:\n  ethernets:\n    lan:\n      match: {macaddress: \"00:50:56:9a:11:22\"}\n      macaddress: 00:50:56:9a:11:23\n      addresses: [10.0.0.5/24]\n"},
			edited:  map[string]string{"/etc/netplan/1.yaml": "network:\n  ethernets:\n    lan:\n      match: {name: \"e*\"}\n      addresses: [10.0.0.5/24]\n"},
		},
		"netplan not laid out by lines": {
			network: "netplan", subject: "/etc/netplan",
			files: map[string]string{"/etc/netplan/1.yaml": "network:\n  ethernets: {lan: {match: {macaddress: 00:50:56:9a:11:22},\n    addresses: [10.0.0.5/24]}}\n"},
		},
		"networkd by address": {
			network: "systemd-networkd",
			files:   map[string]string{"/etc/systemd/network/1.network": "[Match]\nMACAddress=00:50:56:9a:11:22\n[Network]\nAddress=10.0.0.5/24\n"},
			edited:  map[string]string{"/etc/systemd/network/1.network": "[Match]\nName=en* eth*\n[Network]\nAddress=10.0.0.5/24\n"},
		},
		"networkd by name": {
			network: "systemd-networkd",
			files:   map[string]string{"/etc/systemd/network/1.network": "[Match]\nName=enp3s0\n", "/etc/systemd/network/2.network": "[Match]\nName=lan\n", "/etc/systemd/network/2.netdev": "[NetDev]\nName=lan\nKind=bridge\n"},
			rules:   rule("0", "enp3s0"), subject: "enp3s0",
		},
		"a name that would end the rule": {
			network: "NetworkManager",
			files:   map[string]string{keyfileDir + "/x": "[connection]\ntype=ethernet\ninterface-name=a\", RUN+=\"/x\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := keep(c.network, c.files)
			want := map[string]string{}
			maps.Copy(want, c.edited)
			if c.rules != "" {
				want[cardRules] = rehostHead + c.rules
			}
			got := map[string]string{}
			for _, e := range p.edits {
				got[e.Path] = string(e.Data)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if c.subject == "" && len(p.findings) > 0 || c.subject != "" && (len(p.findings) != 1 || p.findings[0].Subject != c.subject) {
				t.Errorf("findings %+v, want one of %q", p.findings, c.subject)
			}
			if kernel := slices.Contains(p.commandLine([]string{"ifname=lan:00:50:56:9a:11:22", "ro"}, ""), "net.ifnames=0"); kernel != (len(p.cards) > 0) {
				t.Errorf("net.ifnames=0 on the command line: %v", kernel)
			}
		})
	}
}

func FuzzKeptNetwork(f *testing.F) {
	f.Add("network:\n  ethernets:\n    lan:\n      match: {macaddress: \"00:50:56:9a:11:22\"}\n      set-name: x\n    \"b\":\n")
	f.Add("[Match]\nMACAddress=00:50:56:9a:11:22\n[connection]\ntype=ethernet\ninterface-name=ens3\n[ipv4]\naddress1=10.0.0.5/24,10.0.0.1\n")
	f.Add("DEVICE=ens3\nHWADDR=00:50:56:9a:11:22\nGATEWAY=1\niface ens3 inet static\n hwaddress ether 00:50:56:9a:11:22\n bond-slaves a b\n")
	f.Fuzz(func(t *testing.T, text string) {
		for network, file := range map[string]string{
			"netplan": "/etc/netplan/a.yaml", "ifupdown": "/etc/network/interfaces", "systemd-networkd": "/etc/systemd/network/a.network",
			"NetworkManager": keyfileDir + "/a", "ifcfg": redhatDir + "/ifcfg-a", "wicked": suseDir + "/ifcfg-a",
		} {
			files := map[string]string{file: text}
			once := keep(network, files)
			for _, e := range once.edits {
				if e.Action != ActionRemove {
					files[e.Path] = string(e.Data)
				}
				if e.Path == cardRules && !regexp.MustCompile(`^(SUBSYSTEM=="net", ACTION=="add", DRIVERS=="\?\*", ATTR\{type\}=="1", KERNEL=="eth\d+", NAME="[A-Za-z0-9_-]+"\n)+$`).MatchString(strings.TrimPrefix(string(e.Data), rehostHead)) {
					t.Errorf("%s: %q makes the rule %q", network, text, e.Data)
				}
			}
			if twice := keep(network, files); len(twice.edits) > 0 {
				t.Errorf("%s: %q is changed again: %+v", network, text, twice.edits)
			}
		}
	})
}

func TestWhatIsInstalledBesideTheNetworksOwnProgramDoesNotCount(t *testing.T) {
	const loop, card = "auto lo\niface lo inet loopback\n", "auto ens3\niface ens3 inet dhcp\n"
	for _, c := range []struct {
		name, interfaces string
		enabled          []string
		want             string
	}{
		{"ifupdown alone", loop + card, nil, "ifupdown"},
		{"NetworkManager beside it", loop, []string{"NetworkManager", "networking"}, "NetworkManager"},
		{"ifupdown is off", loop + card, []string{"NetworkManager"}, "NetworkManager"},
		{"ifupdown has the card", loop + card, []string{"NetworkManager", "networking"}, "ifupdown"},
		{"networkd beside it", loop, []string{"systemd-networkd", "networking"}, "systemd-networkd"},
	} {
		f := Facts{Files: map[string]File{"/etc/network/interfaces": {Data: []byte(c.interfaces)}, "/sbin/ifup": {}}}
		for _, unit := range c.enabled {
			f.Files[wants+unit+".service"] = File{Link: "/lib/systemd/system/" + unit + ".service"}
		}
		if got := networkKind(f); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
