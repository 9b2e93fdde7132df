package config

import (
	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

const maxPort = 65535

// DefaultLaunch returns a launch block's defaults: boot as the source does, take an address by DHCP, open nothing.
func DefaultLaunch() protocol.LaunchSettings {
	return protocol.LaunchSettings{
		InstanceType:    "t3.small",
		ConversionImage: "rehost-convert",
		ConversionType:  "t3.small",
		IngressPorts:    []int{},
		BootMode:        "source",
		Network:         "dhcp",
	}
}

type launchBlock struct {
	Name            string         `hcl:"name,label"`
	NameAt          hcl.Range      `hcl:"name,label_range"`
	At              hcl.Range      `hcl:",def_range"`
	InstanceType    *hcl.Attribute `hcl:"instance_type,optional"`
	ConversionImage *hcl.Attribute `hcl:"conversion_image,optional"`
	ConversionType  *hcl.Attribute `hcl:"conversion_instance_type,optional"`
	Subnet          *hcl.Attribute `hcl:"subnet,optional"`
	TestSubnet      *hcl.Attribute `hcl:"test_subnet,optional"`
	IngressPorts    *hcl.Attribute `hcl:"ingress_ports,optional"`
	BootMode        *hcl.Attribute `hcl:"boot_mode,optional"`
	Network         *hcl.Attribute `hcl:"network,optional"`
	Tags            *hcl.Attribute `hcl:"tags,optional"`
}

func (b launchBlock) read(r *reader) protocol.LaunchSettings {
	s := DefaultLaunch()
	s.Name = b.Name
	r.text(b.InstanceType, &s.InstanceType)
	r.text(b.ConversionImage, &s.ConversionImage)
	r.text(b.ConversionType, &s.ConversionType)
	r.text(b.Subnet, &s.Subnet)
	r.text(b.TestSubnet, &s.TestSubnet)
	r.ports(b.IngressPorts, &s.IngressPorts)
	r.oneOf(b.BootMode, &s.BootMode, "source", "bios", "uefi")
	r.oneOf(b.Network, &s.Network, "dhcp", "keep")
	r.tags(b.Tags, &s.Tags)
	return s
}
