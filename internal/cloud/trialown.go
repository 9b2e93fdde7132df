package cloud

import (
	"cmp"
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"
)

// Trial is what became of one call that was tried.
type Trial struct {
	Action string // such as ec2:AttachVolume
	Err    error  // nil: it is allowed
}

// Kinds of what calls are tried on.
const (
	aVolume    = "volume"
	anInstance = "instance"
	aGroup     = "security group"
	anImage    = "image"
	aSnapshot  = "snapshot"
)

// specimens are what calls are tried on, by kind.
type specimens map[string]thing

func (s specimens) id(kind string) *string { return aws.String(s[kind].id) }

// fewestBlocks is the least that EBS lists.
const fewestBlocks = 100

// trialsAtOnce hides the latency of one call behind the others.
const trialsAtOnce = 8

// ownTrial is a call that the driver makes on what is there.
type ownTrial struct {
	action string
	needs  []string
	try    func(ctx context.Context, c *Client, s specimens) error
}

var ownTrials = slices.Concat(lookTrials, volumeTrials, instanceTrials, blockTrials)

// lookTrials ask for permission to look.
var lookTrials = []ownTrial{
	{"ec2:DescribeImages", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeInstanceStatus", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeInstances", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeInstanceTypeOfferings", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeInstanceTypes", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeSecurityGroups", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeSnapshots", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeSubnets", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeVolumes", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{DryRun: dryRun})
		return err
	}},
	{"ec2:DescribeVpcs", nil, func(ctx context.Context, c *Client, _ specimens) error {
		_, err := c.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{DryRun: dryRun})
		return err
	}},
}

// volumeTrials change volumes and snapshots.
var volumeTrials = []ownTrial{
	{"ec2:AttachVolume", []string{aVolume, anInstance}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: s.id(aVolume), InstanceId: s.id(anInstance), Device: aws.String(deviceName(0)), DryRun: dryRun})
		return err
	}},
	{"ec2:DetachVolume", []string{aVolume}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: s.id(aVolume), DryRun: dryRun})
		return err
	}},
	{"ec2:DeleteVolume", []string{aVolume}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: s.id(aVolume), DryRun: dryRun})
		return err
	}},
	{"ec2:CreateSnapshot", []string{aVolume}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{
			VolumeId: s.id(aVolume), TagSpecifications: c.own(Tags{TagRole: RoleConvertedSnapshot}).specification(types.ResourceTypeSnapshot), DryRun: dryRun,
		})
		return err
	}},
	{"ec2:CreateSnapshots", []string{aVolume, anInstance}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{
			InstanceSpecification: &types.InstanceSpecification{InstanceId: s.id(anInstance), ExcludeBootVolume: aws.Bool(true)},
			TagSpecifications:     c.own(Tags{TagRole: RolePointSnapshot}).specification(types.ResourceTypeSnapshot), DryRun: dryRun,
		})
		return err
	}},
	{"ec2:DeleteSnapshot", []string{aSnapshot}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: s.id(aSnapshot), DryRun: dryRun})
		return err
	}},
	{"ec2:DeregisterImage", []string{anImage}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: s.id(anImage), DryRun: dryRun})
		return err
	}},
}

// instanceTrials change instances and security groups.
var instanceTrials = []ownTrial{
	{"ec2:StopInstances", []string{anInstance}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{s[anInstance].id}, DryRun: dryRun})
		return err
	}},
	{"ec2:TerminateInstances", []string{anInstance}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{s[anInstance].id}, DryRun: dryRun})
		return err
	}},
	{"ec2:GetConsoleOutput", []string{anInstance}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: s.id(anInstance), DryRun: dryRun})
		return err
	}},
	{"ec2:GetConsoleScreenshot", []string{anInstance}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: s.id(anInstance), DryRun: dryRun})
		return err
	}},
	{"ec2:AuthorizeSecurityGroupIngress", []string{aGroup}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: s.id(aGroup), IpPermissions: opening(1), DryRun: dryRun})
		return err
	}},
	{"ec2:RevokeSecurityGroupEgress", []string{aGroup}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ec2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: s.id(aGroup), IpPermissions: opening(1), DryRun: dryRun})
		return err
	}},
}

// blockTrials are reads of a snapshot. EBS has no DryRun: they are done.
var blockTrials = []ownTrial{
	{"ebs:ListSnapshotBlocks", []string{aSnapshot}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ebs.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: s.id(aSnapshot), MaxResults: aws.Int32(fewestBlocks)})
		return err
	}},
	{"ebs:ListChangedBlocks", []string{aSnapshot}, func(ctx context.Context, c *Client, s specimens) error {
		_, err := c.ebs.ListChangedBlocks(ctx, &ebs.ListChangedBlocksInput{SecondSnapshotId: s.id(aSnapshot), MaxResults: aws.Int32(fewestBlocks)})
		return err
	}},
	{"ebs:GetSnapshotBlock", []string{aSnapshot}, func(ctx context.Context, c *Client, s specimens) error {
		list, err := c.ebs.ListSnapshotBlocks(ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: s.id(aSnapshot), MaxResults: aws.Int32(fewestBlocks)})
		if err != nil || len(list.Blocks) == 0 {
			return err
		}
		first := list.Blocks[0]
		out, err := c.ebs.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: s.id(aSnapshot), BlockIndex: first.BlockIndex, BlockToken: first.BlockToken})
		if err == nil {
			err = out.BlockData.Close()
		}
		return err
	}},
}

// TryOwn tries the calls that look, and those that change, end or read what is there, on things of the fleet and on an image.
func (c *Client) TryOwn(ctx context.Context, image string) []Trial {
	s, unknown := c.specimens(ctx, image)
	unsure := cmp.Or(unknown, c.sure(ctx))
	out := make([]Trial, len(ownTrials))
	var g errgroup.Group
	g.SetLimit(trialsAtOnce)
	for i, t := range ownTrials {
		out[i] = Trial{t.action, unsure}
		if t.needs == nil { // it only looks
			out[i].Err = unknown
		}
		if out[i].Err == nil {
			g.Go(func() error { out[i].Err = c.tryOwn(ctx, t, s); return nil })
		}
	}
	_ = g.Wait() // none of them fails
	return out
}

func (c *Client) tryOwn(ctx context.Context, t ownTrial, s specimens) error {
	for _, kind := range t.needs {
		if s[kind].id == "" {
			return untried("there is no %s of the fleet to try it on", kind)
		}
	}
	err := t.try(ctx, c, s)
	if err == nil && t.needs != nil && t.action[:4] == "ebs:" {
		return nil
	}
	err = tried(err, "try %s", t.action)
	for _, kind := range t.needs {
		err = s[kind].judge(err)
	}
	return err
}

// specimens finds a volume, an instance and a security group of the fleet, and the image and its snapshot.
func (c *Client) specimens(ctx context.Context, image string) (specimens, error) {
	s := specimens{}
	found, err := c.FindImage(ctx, image)
	if err != nil && !NotFound(err) && Missing(err) == "" {
		return nil, err
	}
	if err == nil {
		s[anImage] = thing{found.ID, found.Tags[TagRole] != ""}
		if snapshot, err := c.applianceSnapshot(ctx, image); err == nil {
			s[aSnapshot] = snapshot
		}
	}
	for _, look := range []func(context.Context, []types.Filter) (kind, id string, err error){c.oneVolume, c.oneInstance, c.oneGroup} {
		kind, id, err := look(ctx, c.ours())
		if err != nil && Missing(fail(err, "")) == "" {
			return nil, fail(err, "look for something to try calls on")
		}
		s[kind] = thing{id, true}
	}
	return s, nil
}

func (c *Client) oneVolume(ctx context.Context, ours []types.Filter) (kind, id string, err error) {
	for pages := ec2.NewDescribeVolumesPaginator(c.ec2, &ec2.DescribeVolumesInput{Filters: ours}); id == "" && err == nil && pages.HasMorePages(); {
		var page *ec2.DescribeVolumesOutput
		if page, err = pages.NextPage(ctx); err == nil && len(page.Volumes) > 0 {
			id = aws.ToString(page.Volumes[0].VolumeId)
		}
	}
	return aVolume, id, err
}

func (c *Client) oneInstance(ctx context.Context, ours []types.Filter) (kind, id string, err error) {
	alive := append(slices.Clone(ours), filter("instance-state-name", InstancePending, InstanceRunning, InstanceStopping, InstanceStopped))
	for pages := ec2.NewDescribeInstancesPaginator(c.ec2, &ec2.DescribeInstancesInput{Filters: alive}); id == "" && err == nil && pages.HasMorePages(); {
		var page *ec2.DescribeInstancesOutput
		if page, err = pages.NextPage(ctx); err == nil && len(page.Reservations) > 0 {
			id = aws.ToString(page.Reservations[0].Instances[0].InstanceId)
		}
	}
	return anInstance, id, err
}

func (c *Client) oneGroup(ctx context.Context, ours []types.Filter) (kind, id string, err error) {
	for pages := ec2.NewDescribeSecurityGroupsPaginator(c.ec2, &ec2.DescribeSecurityGroupsInput{Filters: ours}); id == "" && err == nil && pages.HasMorePages(); {
		var page *ec2.DescribeSecurityGroupsOutput
		if page, err = pages.NextPage(ctx); err == nil && len(page.SecurityGroups) > 0 {
			id = aws.ToString(page.SecurityGroups[0].GroupId)
		}
	}
	return aGroup, id, err
}
