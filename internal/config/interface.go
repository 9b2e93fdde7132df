package config

import (
	"net/netip"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

const (
	// maxInterfaces is what EC2's largest types take, beside the first one.
	maxInterfaces = 14
	privateIPAuto = "auto"
)

// launchInterfaceBlock is a network interface beside the first one.
type launchInterfaceBlock struct {
	At                 hcl.Range      `hcl:",def_range"`
	Subnet             *hcl.Attribute `hcl:"subnet,optional"`
	TestSubnet         *hcl.Attribute `hcl:"test_subnet,optional"`
	SecurityGroups     *hcl.Attribute `hcl:"security_groups,optional"`
	TestSecurityGroups *hcl.Attribute `hcl:"test_security_groups,optional"`
	PrivateIP          *hcl.Attribute `hcl:"private_ip,optional"`
}

// interfaces reads the network_interface blocks. As soon as there is one, they replace the inherited ones.
func (b launchBlock) interfaces(r *reader, s *protocol.LaunchSettings) {
	if len(b.Interfaces) > 0 {
		s.Interfaces = nil
	}
	for i, n := range b.Interfaces {
		if i >= maxInterfaces {
			r.fail(n.At, "Too many network interfaces", "EC2 takes %d beside the first one. Remove some.", maxInterfaces)
			break
		}
		s.Interfaces = append(s.Interfaces, n.read(r, *s))
	}
	if len(s.Interfaces) > 0 && s.Subnet == "" {
		r.fail(b.At, "Missing subnet", "All interfaces of an instance are in one zone, so that of the first one is to be told. Write subnet = \"subnet-...\" in launch %q.", s.Name)
	}
	for i, n := range s.Interfaces {
		if s.TestSubnet != "" && n.Subnet != "" && n.TestSubnet == "" {
			r.fail(b.interfaceAt(i), "Missing test_subnet", "Tests have a subnet of their own, and this interface would be in %s in tests, too. Write test_subnet = %q, or another one.", n.Subnet, s.TestSubnet)
		}
	}
}

// interfaceAt is where an interface is told of: an inherited one has no place in this block.
func (b launchBlock) interfaceAt(i int) hcl.Range {
	if i < len(b.Interfaces) {
		return b.Interfaces[i].At
	}
	return b.At
}

func (b launchInterfaceBlock) read(r *reader, s protocol.LaunchSettings) protocol.LaunchInterface {
	n := protocol.LaunchInterface{PrivateIP: privateIPAuto}
	r.text(b.Subnet, &n.Subnet)
	r.text(b.TestSubnet, &n.TestSubnet)
	r.texts(b.SecurityGroups, &n.SecurityGroups)
	r.texts(b.TestSecurityGroups, &n.TestSecurityGroups)
	if !r.text(b.PrivateIP, &n.PrivateIP) || n.PrivateIP == privateIPAuto {
		return n
	}
	if a, err := netip.ParseAddr(n.PrivateIP); err != nil || !a.Is4() {
		r.fail(b.PrivateIP.Expr.Range(), "Not an address", "%q is no IPv4 address. Write one of the subnet, such as %q, or %q.", n.PrivateIP, "10.0.1.7", privateIPAuto)
		n.PrivateIP = privateIPAuto
	} else if slices.ContainsFunc(s.Interfaces, func(o protocol.LaunchInterface) bool { return o.PrivateIP == n.PrivateIP }) {
		r.fail(b.PrivateIP.Expr.Range(), "Address is there twice", "Another interface of this block has %s already. Write another one, or %q.", n.PrivateIP, privateIPAuto)
	}
	return n
}

// fixedAddresses refuses a launch block with a fixed address that several servers use: the second one could not be launched.
func (r *reader) fixedAddresses(raw []serverBlock, fleet protocol.Fleet) {
	user := map[string]string{} // by address
	for i, s := range fleet.Servers {
		at := slices.IndexFunc(fleet.Launches, func(l protocol.LaunchSettings) bool { return l.Name == s.Launch })
		if at < 0 {
			continue
		}
		for _, n := range fleet.Launches[at].Interfaces {
			if n.PrivateIP == privateIPAuto {
				continue
			}
			if other, taken := user[n.PrivateIP]; taken && other != s.Name {
				r.fail(raw[i].At, "Address of two servers", "By its launch block %q, the server %q has the address %s, as the server %q has. Give it a launch block of its own: from = launch.%s, and its own network_interface blocks.",
					s.Launch, s.Name, n.PrivateIP, other, s.Launch)
				continue
			}
			user[n.PrivateIP] = s.Name
		}
	}
}
