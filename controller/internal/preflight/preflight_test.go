package preflight

import (
	"context"
	"errors"
	"strings"
	"testing"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// region has a few things, and counts the questions.
type region struct {
	asked int
	err   error
}

// absent is EC2's answer about what is not there.
func absent(code string) error { return &cloud.Error{Op: "look", Code: code} }

func (r *region) InstanceType(_ context.Context, name string) (cloud.Type, error) {
	r.asked++
	if r.err != nil {
		return cloud.Type{}, r.err
	}
	t := cloud.Type{Name: name, Architectures: []string{"x86_64"}, BootModes: []string{"bios", "uefi"}, Interfaces: 3}
	switch name {
	case "t3.small":
	case "t2.small":
		t.BootModes = []string{"bios"}
	case "t4g.small":
		t.Architectures, t.BootModes = []string{"arm64"}, []string{"uefi"}
	default:
		return cloud.Type{}, absent("InvalidInstanceType")
	}
	return t, nil
}

func (r *region) NetworkOf(_ context.Context, subnet string) (cloud.Network, error) {
	r.asked++
	switch subnet {
	case "subnet-1":
		return cloud.Network{ID: "vpc-1", Zone: "z1", CIDR: "10.1.0.0/16", Free: 3}, nil
	case "subnet-3":
		return cloud.Network{ID: "vpc-1", Zone: "z1", CIDR: "10.3.0.0/16", Free: 3}, nil
	case "subnet-4":
		return cloud.Network{ID: "vpc-1", Zone: "z2", CIDR: "10.4.0.0/16", Free: 3}, nil
	case "subnet-2":
		return cloud.Network{ID: "vpc-2", CIDR: "10.2.0.0/16", Free: 3}, nil
	}
	return cloud.Network{}, absent("InvalidSubnetID.NotFound")
}

func (r *region) GroupNetwork(_ context.Context, id string) (string, error) {
	r.asked++
	if id == "sg-1" || id == "sg-2" {
		return "vpc-" + id[3:], nil
	}
	return "", absent("InvalidGroup.NotFound")
}

// Offered has the older types in one zone only.
func (r *region) Offered(_ context.Context, kind, zone string) (bool, error) {
	r.asked++
	return zone == "z1" || kind != "t2.small", nil
}

func TestCheck(t *testing.T) {
	hosts := map[string]protocol.Host{"old": {BootMode: "bios", Address: "10.1.0.7"}, "new": {BootMode: "uefi", Address: "10.2.0.7"}}
	for name, c := range map[string]struct {
		launch protocol.LaunchSettings
		want   string // of the message; empty: nothing is wrong
		hint   string
	}{
		"nothing is set":     {protocol.LaunchSettings{}, "", ""},
		"all is well":        {protocol.LaunchSettings{InstanceType: "t3.small", Subnet: "subnet-1", SecurityGroups: []string{"sg-1"}, TestSubnet: "subnet-2", TestSecurityGroups: []string{"sg-2"}}, "", ""},
		"any type":           {protocol.LaunchSettings{InstanceType: "auto"}, "", ""},
		"no such type":       {protocol.LaunchSettings{InstanceType: "t9.small"}, `launch web: there is no instance type "t9.small"`, "such as t3.small"},
		"no such helper":     {protocol.LaunchSettings{ConversionType: "t9.small"}, `no instance type "t9.small"`, "conversion_instance_type"},
		"another processor":  {protocol.LaunchSettings{InstanceType: "t4g.small", BootMode: "uefi"}, "t4g.small is for arm64, sources are x86_64", "x86_64"},
		"boots by BIOS only": {protocol.LaunchSettings{InstanceType: "t2.small"}, "t2.small boots by bios, server new by uefi", "boots by uefi"},
		"boots as it is set": {protocol.LaunchSettings{InstanceType: "t2.small", BootMode: "bios"}, "", ""},
		"no such subnet":     {protocol.LaunchSettings{Subnet: "subnet-9"}, `there is no subnet "subnet-9"`, "`subnet`"},
		"no such group":      {protocol.LaunchSettings{SecurityGroups: []string{"sg-1", "sg-9"}}, `there is no security group "sg-9"`, "`security_groups`"},
		"a group elsewhere":  {protocol.LaunchSettings{Subnet: "subnet-1", SecurityGroups: []string{"sg-2"}}, "sg-2 is in vpc-2, the subnet in vpc-1", "groups of vpc-1"},
		"no group for tests": {protocol.LaunchSettings{Subnet: "subnet-1", SecurityGroups: []string{"sg-1"}, TestSubnet: "subnet-2"}, "sg-1 is in vpc-1, the subnet in vpc-2", ""},
		"an address":         {protocol.LaunchSettings{Subnet: "subnet-1", PrivateIP: "copy"}, "the address 10.2.0.7 of server new is to be copied, and its subnet has 10.1.0.0/16", "private_ip"},
		"not in the zone":    {protocol.LaunchSettings{InstanceType: "t2.small", BootMode: "bios", Subnet: "subnet-1", TestSubnet: "subnet-4"}, "launch web: zone z2 of its subnet does not offer instance type t2.small", "z2"},
		"two mistakes":       {protocol.LaunchSettings{InstanceType: "t9.small", Subnet: "subnet-9"}, `"t9.small" in the region; launch web: there is no subnet`, ""},
	} {
		l := c.launch
		l.Name = "web"
		f := protocol.Fleet{Launches: []protocol.LaunchSettings{l}, Servers: []protocol.ServerSettings{{Name: "old", Launch: "web"}, {Name: "new", Launch: "web"}, {Name: "silent", Launch: "web"}}}
		p, warnings := Check(t.Context(), &region{}, f, func(server string) Known { return Known{Host: hosts[server]} })
		if len(warnings) != 0 {
			t.Errorf("%s: %v", name, warnings)
		}
		if (p == nil) != (c.want == "") {
			t.Errorf("%s: got %v, want %q", name, p, c.want)
		}
		if p != nil && (!strings.Contains(p.Message, c.want) || p.Hint == "" || !strings.Contains(p.Hint, c.hint) || p.Code != protocol.ProblemInvalid) {
			t.Errorf("%s: got %q, hint %q, want %q, %q", name, p.Message, p.Hint, c.want, c.hint)
		}
	}
}

func TestNetworkInterfaces(t *testing.T) {
	type nic = protocol.LaunchInterface
	for name, c := range map[string]struct {
		interfaces []nic
		want       string // empty: nothing is wrong
	}{
		"all is well":             {[]nic{{Subnet: "subnet-3", TestSubnet: "subnet-2", SecurityGroups: []string{"sg-1"}, TestSecurityGroups: []string{"sg-2"}, PrivateIP: "10.3.0.7"}, {PrivateIP: "auto"}}, ""},
		"no such subnet":          {[]nic{{}, {Subnet: "subnet-9"}}, `launch web, network_interface 2: there is no subnet "subnet-9"`},
		"another network":         {[]nic{{Subnet: "subnet-2"}}, "subnet subnet-2 is in vpc-2, the first interface in vpc-1"},
		"another network, tests":  {[]nic{{TestSubnet: "subnet-3"}}, "subnet subnet-3 is in vpc-1, the first interface in vpc-2"},
		"another zone":            {[]nic{{Subnet: "subnet-4"}}, "subnet subnet-4 is in zone z2, the first interface in z1"},
		"no such group":           {[]nic{{SecurityGroups: []string{"sg-9"}}}, `there is no security group "sg-9"`},
		"a group elsewhere":       {[]nic{{SecurityGroups: []string{"sg-2"}}}, "sg-2 is in vpc-2, the subnet in vpc-1"},
		"a group for tests":       {[]nic{{TestSecurityGroups: []string{"sg-1"}}}, "sg-1 is in vpc-1, the subnet in vpc-2"},
		"no group for tests":      {[]nic{{Subnet: "subnet-3", TestSubnet: "subnet-2", SecurityGroups: []string{"sg-1"}}}, "sg-1 is in vpc-1, the subnet in vpc-2"},
		"an address elsewhere":    {[]nic{{Subnet: "subnet-3", PrivateIP: "10.1.0.7"}}, "the address 10.1.0.7 is none of its subnet, which has 10.3.0.0/16"},
		"an address of the first": {[]nic{{PrivateIP: "10.1.0.7"}}, ""},
		"more than the type has":  {[]nic{{}, {}, {}}, "it has 4 network interfaces, instance type t3.small takes 3"},
	} {
		f := protocol.Fleet{Launches: []protocol.LaunchSettings{{Name: "web", InstanceType: "t3.small", Subnet: "subnet-1", TestSubnet: "subnet-2", Interfaces: c.interfaces}}}
		p, warnings := Check(t.Context(), &region{}, f, func(string) Known { return Known{} })
		if len(warnings) != 0 || (p == nil) != (c.want == "") || (p != nil && (!strings.Contains(p.Message, c.want) || p.Hint == "")) {
			t.Errorf("%s: got %v, %v, want %q", name, p, warnings, c.want)
		}
	}
}

func TestACloudThatIsAwayRefusesNothing(t *testing.T) {
	r := &region{err: errors.New("connection refused")}
	f := protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default", InstanceType: "t3.small", Subnet: "subnet-9"}},
		Launches:     []protocol.LaunchSettings{{Name: "web", InstanceType: "t9.small", Subnet: "subnet-9"}},
	}
	p, warnings := Check(t.Context(), r, f, func(string) Known { return Known{} })
	if p != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "connection refused") || r.asked != 1 {
		t.Errorf("got %v, %v after %d questions", p, warnings, r.asked)
	}
}

func TestEachThingIsAskedForOnce(t *testing.T) {
	r := &region{}
	f := protocol.Fleet{Replications: []protocol.ReplicationSettings{{Name: "default", InstanceType: "t9.small", Subnet: "subnet-1"}}}
	for _, name := range []string{"a", "b", "c"} {
		f.Launches = append(f.Launches, protocol.LaunchSettings{Name: name, InstanceType: "t9.small", Subnet: "subnet-1"})
	}
	p, _ := Check(t.Context(), r, f, func(string) Known { return Known{} })
	if r.asked != 2 || p == nil || strings.Count(p.Message, "t9.small") != 4 {
		t.Errorf("%d questions, %v", r.asked, p)
	}
}

// TestTooFewAddresses counts the servers that are still to be launched.
func TestTooFewAddresses(t *testing.T) {
	f := protocol.Fleet{Launches: []protocol.LaunchSettings{{Name: "web", Subnet: "subnet-1"}}}
	for _, name := range []string{"a", "b", "c", "d"} {
		f.Servers = append(f.Servers, protocol.ServerSettings{Name: name, Launch: "web"})
	}
	if p, warnings := Check(t.Context(), &region{}, f, func(string) Known { return Known{} }); p != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "subnet-1 has 3 free addresses, and 4 servers") {
		t.Errorf("four servers: got %v, %v", p, warnings)
	}
	if p, warnings := Check(t.Context(), &region{}, f, func(server string) Known { return Known{Launched: server == "a"} }); p != nil || len(warnings) != 0 {
		t.Errorf("three servers and one that is there: got %v, %v", p, warnings)
	}
}
