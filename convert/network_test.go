package convert

import (
	"slices"
	"strings"
	"testing"

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
				if err := p.network(); err != nil || len(p.findings) > 0 {
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
			if len(p.edits) != 1 || p.edits[0].Path != c.kept || hasMAC.Match(p.edits[0].Data) || !strings.Contains(string(p.edits[0].Data), "10.0.0.5") {
				t.Errorf("kept addresses: %+v", p.edits)
			}
		})
	}
}
