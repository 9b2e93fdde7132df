package cloud

import (
	"context"
	"errors"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Type is a type of instance that the region offers.
type Type struct {
	Name          string
	Cores         int
	MemoryBytes   int64
	BootModes     []string // bios, uefi
	Architectures []string // such as x86_64
	Interfaces    int      // network interfaces that it may have at most; 0: not said
}

// InstanceType describes a type of instance.
func (c *Client) InstanceType(ctx context.Context, name string) (Type, error) {
	out, err := c.ec2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{types.InstanceType(name)}})
	if err != nil {
		return Type{}, fail(err, "look for instance type %s", name)
	}
	if len(out.InstanceTypes) == 0 {
		return Type{}, absent("InvalidInstanceType.NotFound", "look for instance type %s", name)
	}
	i := out.InstanceTypes[0]
	t := Type{Name: name}
	if i.VCpuInfo != nil {
		t.Cores = int(aws.ToInt32(i.VCpuInfo.DefaultVCpus))
	}
	if i.MemoryInfo != nil {
		t.MemoryBytes = aws.ToInt64(i.MemoryInfo.SizeInMiB) << 20
	}
	if i.NetworkInfo != nil {
		t.Interfaces = int(aws.ToInt32(i.NetworkInfo.MaximumNetworkInterfaces))
	}
	if i.ProcessorInfo != nil {
		for _, a := range i.ProcessorInfo.SupportedArchitectures {
			t.Architectures = append(t.Architectures, string(a))
		}
	}
	for _, m := range i.SupportedBootModes {
		mode := string(m)
		if m == types.BootModeTypeLegacyBios {
			mode = "bios"
		}
		t.BootModes = append(t.BootModes, mode)
	}
	return t, nil
}

// Network says where a subnet is.
type Network struct {
	ID   string // VPC
	Zone string
	CIDR string
	Free int // addresses that nothing has yet
}

// NetworkOf describes a subnet.
func (c *Client) NetworkOf(ctx context.Context, subnet string) (Network, error) {
	s, err := c.subnet(ctx, subnet)
	return Network{ID: aws.ToString(s.VpcId), Zone: aws.ToString(s.AvailabilityZone), CIDR: aws.ToString(s.CidrBlock), Free: int(aws.ToInt32(s.AvailableIpAddressCount))}, err
}

// Offered says whether a zone has a type of instance. A type that the region has need not be in all its zones.
func (c *Client) Offered(ctx context.Context, name, zone string) (bool, error) {
	out, err := c.ec2.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone, Filters: []types.Filter{filter("instance-type", name), filter("location", zone)},
	})
	if err != nil {
		return false, fail(err, "look for instance type %s in zone %s", name, zone)
	}
	return len(out.InstanceTypeOfferings) > 0, nil
}

// GroupNetwork returns the VPC of a security group.
func (c *Client) GroupNetwork(ctx context.Context, id string) (string, error) {
	out, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{id}})
	if err != nil {
		return "", fail(err, "look for security group %s", id)
	}
	if len(out.SecurityGroups) == 0 {
		return "", absent("InvalidGroup.NotFound", "look for security group %s", id)
	}
	return aws.ToString(out.SecurityGroups[0].VpcId), nil
}

// Unknown says that EC2 does not know a thing by the id or name that it was asked for, or that this cannot be one.
func Unknown(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return NotFound(err) || ok && slices.Contains([]string{
		"InvalidInstanceType", "InvalidSubnetID.Malformed", "InvalidGroupId.Malformed", "InvalidParameterValue",
	}, e.Code)
}
