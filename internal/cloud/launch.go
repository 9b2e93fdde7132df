package cloud

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// LaunchOptions are the wishes of a launch that has some. The zero value is EC2's defaults.
type LaunchOptions struct {
	PrivateIP  string          // of the subnet's range; empty: a free one
	Profile    string          // name or ARN of an instance profile
	Tenancy    string          // default, dedicated or host
	HTTPTokens string          // of the metadata service: required or optional
	HopLimit   int             // of the metadata service's answers
	Volumes    []VolumeOptions // of the image's root and data volumes, in this order; what is missing or empty stays as the image says
}

// NetworkInterface is one of an instance's, beside its first one. The instance's end removes it.
type NetworkInterface struct {
	Subnet         string
	SecurityGroups []string
	PrivateIP      string // empty: a free one
}

// addInterfaces adds interfaces to a request. Once there are any, EC2 wants to read there of the first one, too.
func addInterfaces(in *ec2.RunInstancesInput, more []NetworkInterface) {
	if len(more) == 0 {
		return
	}
	all := append([]NetworkInterface{{Subnet: aws.ToString(in.SubnetId), SecurityGroups: in.SecurityGroupIds, PrivateIP: aws.ToString(in.PrivateIpAddress)}}, more...)
	in.SubnetId, in.SecurityGroupIds, in.PrivateIpAddress = nil, nil, nil
	for i, n := range all {
		in.NetworkInterfaces = append(in.NetworkInterfaces, types.InstanceNetworkInterfaceSpecification{
			DeviceIndex: aws.Int32(int32(i)), SubnetId: optional(n.Subnet), Groups: n.SecurityGroups, PrivateIpAddress: optional(n.PrivateIP),
			DeleteOnTermination: aws.Bool(true),
		})
	}
}

// VolumeOptions change a volume that a launch makes.
type VolumeOptions struct {
	Type  string
	IOPS  int
	MiBps int // throughput
}

// apply adds the wishes to a request.
func (o LaunchOptions) apply(in *ec2.RunInstancesInput) {
	in.PrivateIpAddress = optional(o.PrivateIP)
	switch {
	case len(o.Profile) > 4 && o.Profile[:4] == "arn:":
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Arn: aws.String(o.Profile)}
	case o.Profile != "":
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String(o.Profile)}
	}
	if o.Tenancy != "" {
		if in.Placement == nil {
			in.Placement = &types.Placement{}
		}
		in.Placement.Tenancy = types.Tenancy(o.Tenancy)
	}
	if o.HTTPTokens != "" || o.HopLimit > 0 {
		m := &types.InstanceMetadataOptionsRequest{HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensState(o.HTTPTokens)}
		if o.HopLimit > 0 {
			m.HttpPutResponseHopLimit = aws.Int32(int32(o.HopLimit))
		}
		in.MetadataOptions = m
	}
	for i, v := range o.Volumes {
		if v == (VolumeOptions{}) {
			continue
		}
		device := rootDevice
		if i > 0 {
			device = deviceName(i - 1)
		}
		ebs := &types.EbsBlockDevice{VolumeType: types.VolumeType(v.Type)}
		if v.IOPS > 0 {
			ebs.Iops = aws.Int32(int32(v.IOPS))
		}
		if v.MiBps > 0 {
			ebs.Throughput = aws.Int32(int32(v.MiBps))
		}
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, types.BlockDeviceMapping{DeviceName: aws.String(device), Ebs: ebs})
	}
}

// StopInstance stops an instance and waits until it is stopped.
func (c *Client) StopInstance(ctx context.Context, id string, progress Progress) (Instance, error) {
	if _, err := c.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{id}}); err != nil {
		return Instance{}, fail(err, "stop instance %s", id)
	}
	return c.WaitInstance(ctx, id, InstanceStopped, progress)
}
