package cloud

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/internal/hint"
)

// GroupSpec is a security group as it should be.
type GroupSpec struct {
	Name        string // unique in its network; the driver adds the fleet
	Description string
	Subnet      string // names the network; empty: the default one
	Ports       []int  // TCP ports open to everyone who can reach the network
	Closed      bool   // nothing may go out either
	Tags        Tags
}

// EnsureSecurityGroup finds the fleet's group of that name, or creates it, opens the ports that are missing, and returns its id.
func (c *Client) EnsureSecurityGroup(ctx context.Context, spec GroupSpec) (string, error) {
	if c.fleet != "" {
		spec.Name += "-" + c.fleet
	}
	network, err := c.networkOf(ctx, spec.Subnet)
	if err != nil {
		return "", err
	}
	group, ok, err := c.findGroup(ctx, spec.Name, network)
	if err != nil {
		return "", err
	}
	if !ok {
		if group, err = c.createGroup(ctx, spec, network); err != nil {
			return "", err
		}
	}
	if err := c.openPorts(ctx, group, spec.Ports); err != nil {
		return "", err
	}
	if spec.Closed && len(group.IpPermissionsEgress) > 0 {
		_, err := c.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: group.GroupId, IpPermissions: group.IpPermissionsEgress})
		if code(err) != "InvalidPermission.NotFound" && err != nil {
			return "", fail(err, "close security group %s", spec.Name)
		}
	}
	return aws.ToString(group.GroupId), nil
}

func (c *Client) networkOf(ctx context.Context, subnet string) (string, error) {
	if subnet != "" {
		s, err := c.subnet(ctx, subnet)
		return aws.ToString(s.VpcId), err
	}
	// Without a subnet instances go to the default network; a group of the same name in another one is of no use.
	out, err := c.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("is-default", "true")}})
	if err != nil {
		return "", fail(err, "find the default network")
	}
	if len(out.Vpcs) == 0 {
		return "", hint.New("the account has no default network in this region", "set `subnet` in the replication and launch blocks")
	}
	return aws.ToString(out.Vpcs[0].VpcId), nil
}

// ZoneOf returns the availability zone of a subnet.
func (c *Client) ZoneOf(ctx context.Context, subnet string) (string, error) {
	s, err := c.subnet(ctx, subnet)
	return aws.ToString(s.AvailabilityZone), err
}

func (c *Client) subnet(ctx context.Context, id string) (types.Subnet, error) {
	out, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{id}})
	if err != nil {
		return types.Subnet{}, fail(err, "describe subnet %s", id)
	}
	if len(out.Subnets) == 0 {
		return types.Subnet{}, absent("InvalidSubnetID.NotFound", "describe subnet %s", id)
	}
	return out.Subnets[0], nil
}

func (c *Client) findGroup(ctx context.Context, name, network string) (types.SecurityGroup, bool, error) {
	filters := []types.Filter{filter("group-name", name)}
	if network != "" {
		filters = append(filters, filter("vpc-id", network))
	}
	out, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: filters})
	if err != nil {
		return types.SecurityGroup{}, false, fail(err, "find security group %s", name)
	}
	if len(out.SecurityGroups) == 0 {
		return types.SecurityGroup{}, false, nil
	}
	return out.SecurityGroups[0], true, nil
}

// groupInput is the call that creates a security group in a network.
func (c *Client) groupInput(spec GroupSpec, network string) *ec2.CreateSecurityGroupInput {
	return &ec2.CreateSecurityGroupInput{
		GroupName: aws.String(spec.Name), Description: aws.String(spec.Description), VpcId: optional(network),
		TagSpecifications: c.own(spec.Tags).specification(types.ResourceTypeSecurityGroup),
	}
}

func (c *Client) createGroup(ctx context.Context, spec GroupSpec, network string) (types.SecurityGroup, error) {
	_, err := c.ec2.CreateSecurityGroup(ctx, c.groupInput(spec, network))
	if err != nil && code(err) != "InvalidGroup.Duplicate" {
		return types.SecurityGroup{}, fail(err, "create security group %s", spec.Name)
	}
	var group types.SecurityGroup
	err = c.wait(ctx, "security group "+spec.Name, nil, func(ctx context.Context) (bool, string, error) {
		var ok bool
		group, ok, err = c.findGroup(ctx, spec.Name, network)
		return ok, "not visible yet", err
	})
	return group, err
}

func (c *Client) openPorts(ctx context.Context, group types.SecurityGroup, ports []int) error {
	for _, port := range ports {
		if slices.ContainsFunc(group.IpPermissions, func(p types.IpPermission) bool { return opens(p, int32(port)) }) {
			continue
		}
		_, err := c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
			GroupId: group.GroupId, IpPermissions: opening(port),
		})
		if err != nil && code(err) != "InvalidPermission.Duplicate" {
			return fail(err, "open port %d in security group %s", port, aws.ToString(group.GroupName))
		}
	}
	return nil
}

// opening is the rule that opens a TCP port to everyone.
func opening(port int) []types.IpPermission {
	return []types.IpPermission{{
		IpProtocol: aws.String("tcp"), FromPort: aws.Int32(int32(port)), ToPort: aws.Int32(int32(port)),
		IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}},
	}}
}

// opens says that a rule lets somebody come to a TCP port; to whom is left to who made it.
func opens(p types.IpPermission, port int32) bool {
	switch aws.ToString(p.IpProtocol) {
	case "-1": // every protocol, which has no ports
		return true
	case "tcp":
		return aws.ToInt32(p.FromPort) <= port && port <= aws.ToInt32(p.ToPort)
	}
	return false
}
