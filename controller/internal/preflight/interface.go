package preflight

import (
	"fmt"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// interfaces checks the network interfaces beside the first one: EC2 wants all of an instance's in one zone and network.
func (k *checker) interfaces(where string, l protocol.LaunchSettings, kind *cloud.Type, cutover, test *cloud.Network) {
	if n := len(l.Interfaces) + 1; kind != nil && kind.Interfaces > 0 && n > kind.Interfaces {
		k.say("remove network_interface blocks, or set `instance_type` to one that takes as many", "%s: it has %d network interfaces, instance type %s takes %d", where, n, kind.Name, kind.Interfaces)
	}
	for i, n := range l.Interfaces {
		at := fmt.Sprintf("%s, network_interface %d", where, i+1)
		inCutover, inTest := cutover, test
		if n.Subnet != "" {
			inCutover = k.subnet(at, "subnet", n.Subnet)
			inTest = inCutover
		}
		k.together(at, "subnet", n.Subnet, inCutover, cutover)
		if n.TestSubnet != "" {
			inTest = k.subnet(at, "test_subnet", n.TestSubnet)
			k.together(at, "test_subnet", n.TestSubnet, inTest, test)
		}
		k.securityGroups(at, "security_groups", n.SecurityGroups, inCutover)
		if len(n.TestSecurityGroups) > 0 {
			k.securityGroups(at, "test_security_groups", n.TestSecurityGroups, inTest)
		} else if n.TestSubnet != "" {
			k.securityGroups(at, "security_groups", n.SecurityGroups, inTest)
		}
		k.within(at, n.PrivateIP, inCutover)
	}
}

// together checks that a subnet is where that of the first interface is.
func (k *checker) together(at, setting, id string, network, first *cloud.Network) {
	if id == "" || network == nil || first == nil {
		return
	}
	if network.ID != first.ID {
		k.say("set `"+setting+"` to a subnet of "+first.ID, "%s: subnet %s is in %s, the first interface in %s", at, id, network.ID, first.ID)
	} else if network.Zone != first.Zone {
		k.say("set `"+setting+"` to a subnet in "+first.Zone, "%s: subnet %s is in zone %s, the first interface in %s", at, id, network.Zone, first.Zone)
	}
}

// within checks that a fixed address is one of the subnet's.
func (k *checker) within(at, address string, network *cloud.Network) {
	if network != nil && outside(network.CIDR, address) {
		k.say("set `private_ip` to an address of "+network.CIDR+", or to \"auto\"", "%s: the address %s is none of its subnet, which has %s", at, address, network.CIDR)
	}
}
