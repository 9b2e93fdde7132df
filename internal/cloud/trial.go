package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// A trial is a call with EC2's DryRun: nothing is done, and the answer says whether the same call would be allowed. EC2 looks up what
// the call names and its tags for that, since a policy may ask for them, so only a call that the controller's own policy lets
// through tells anything: it names what carries [TagRole]. Where there is nothing such, nothing is known.

// ErrUntried says that a call could not be tried in a way that tells whether it is allowed.
var ErrUntried = errors.New("not known yet")

func untried(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUntried, fmt.Sprintf(format, args...))
}

// tried turns the answer to a trial into nil, or into why the call would be refused.
func tried(err error, format string, args ...any) error {
	switch code(err) {
	case "DryRunOperation":
		return nil
	case "":
		if err == nil {
			return untried("the cloud does not know DryRun")
		}
	}
	return fail(err, format, args...)
}

// sure makes sure that the cloud knows DryRun, by calls that only look: one that does not would do what is to be tried.
func (c *Client) sure(ctx context.Context) error {
	if c.triable.Load() {
		return nil
	}
	for _, look := range lookTrials {
		err := look.try(ctx, c, nil)
		if code(err) == "DryRunOperation" {
			c.triable.Store(true)
			return nil
		}
		if err = tried(err, "try to look"); Missing(err) == "" {
			return err
		}
	}
	return untried("the controller may not look, so nothing shows that the cloud knows DryRun")
}

// dryRun asks for a trial. It is the only word for it, so that none is left out.
var dryRun = aws.Bool(true)

// TryInstance says whether an instance could be run; nothing is made. Its image may be a name. Without security groups, it has one of the
// fleet's that is in its network already.
func (c *Client) TryInstance(ctx context.Context, spec InstanceSpec) error {
	if err := c.sure(ctx); err != nil {
		return err
	}
	image, err := c.FindImage(ctx, spec.Image)
	if err != nil {
		return err
	}
	spec.Image = image.ID
	stranger := false
	if len(spec.SecurityGroups) == 0 {
		network, err := c.networkOf(ctx, spec.Subnet)
		if err != nil {
			return err
		}
		_, group, err := c.oneGroup(ctx, append(c.ours(), filter("vpc-id", network)))
		if err != nil {
			return fail(err, "look for a security group")
		}
		if stranger = group == ""; !stranger { // without any, EC2 takes the network's own, which the policy does not let us use
			spec.SecurityGroups = []string{group}
		}
	}
	in := c.runInput(spec)
	in.DryRun = dryRun
	_, err = c.ec2.RunInstances(ctx, in)
	err = tried(err, "try to run an instance of image %s", image.Name)
	if e, ok := errors.AsType[*Error](err); ok && stranger && e.Missing == "ec2:RunInstances" && (e.On == "" || strings.Contains(e.On, ":security-group/")) {
		return untried("there is no security group of the fleet to try it with")
	}
	return err
}

// ours finds what carries the tag that the policy asks for.
func (c *Client) ours() []types.Filter {
	return append(c.own(nil).filters(), filter("tag-key", TagRole))
}

// TryVolume says whether a volume could be created in the zone of a subnet, or of the default network; nothing is made. With an image, it
// is one of that image's snapshot.
func (c *Client) TryVolume(ctx context.Context, spec VolumeSpec, subnet, image string) (err error) {
	if err := c.sure(ctx); err != nil {
		return err
	}
	if spec.Zone, err = c.zoneFor(ctx, subnet); err != nil {
		return err
	}
	known := true
	if image != "" {
		s, err := c.applianceSnapshot(ctx, image)
		if err != nil {
			return err
		}
		spec.Snapshot, known = s.id, s.ours
	}
	in := c.volumeInput(spec)
	in.DryRun = dryRun
	_, err = c.ec2.CreateVolume(ctx, in)
	return thing{image, known}.judge(tried(err, "try to create a volume"))
}

// zoneFor is the zone of a subnet, or one of the default network's.
func (c *Client) zoneFor(ctx context.Context, subnet string) (string, error) {
	if subnet != "" {
		return c.ZoneOf(ctx, subnet)
	}
	out, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter("default-for-az", "true")}})
	if err != nil {
		return "", fail(err, "find a zone of the default network")
	}
	if len(out.Subnets) == 0 {
		return "", untried("the account has no default network in this region")
	}
	return aws.ToString(out.Subnets[0].AvailabilityZone), nil
}

// TryImage says whether an image could be registered; nothing is made. It is one of the snapshot of another image.
func (c *Client) TryImage(ctx context.Context, spec ImageSpec, image string) error {
	if err := c.sure(ctx); err != nil {
		return err
	}
	s, err := c.applianceSnapshot(ctx, image)
	if err != nil {
		return err
	}
	spec.Root = s.id
	in := c.imageInput(spec)
	in.DryRun = dryRun
	_, err = c.ec2.RegisterImage(ctx, in)
	return s.judge(tried(err, "try to register an image"))
}

// TryGroup says whether a security group could be created; nothing is made.
func (c *Client) TryGroup(ctx context.Context, spec GroupSpec) error {
	if err := c.sure(ctx); err != nil {
		return err
	}
	network, err := c.networkOf(ctx, spec.Subnet)
	if err != nil {
		return err
	}
	in := c.groupInput(spec, network)
	in.DryRun = dryRun
	_, err = c.ec2.CreateSecurityGroup(ctx, in)
	if code(err) == "InvalidGroup.Duplicate" {
		return nil
	}
	return tried(err, "try to create a security group")
}

// thing is something that a call is tried on.
type thing struct {
	id   string
	ours bool // it carries our tag, which the policy asks for
}

// judge makes nothing of a refusal that the lack of our tag may be the reason of.
func (t thing) judge(err error) error {
	if err != nil && !t.ours && Missing(err) != "" {
		return untried("%s has no tag %s, which the policy asks for", t.id, TagRole)
	}
	return err
}

// applianceSnapshot finds the first snapshot of an image.
func (c *Client) applianceSnapshot(ctx context.Context, image string) (thing, error) {
	found, err := c.FindImage(ctx, image)
	switch {
	case err != nil:
		return thing{}, err
	case len(found.Snapshots) == 0:
		return thing{}, untried("image %s has no snapshot", image)
	}
	list, err := c.snapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: found.Snapshots[:1]})
	if err != nil || len(list) == 0 {
		return thing{found.Snapshots[0], false}, fail(err, "look at the snapshot of image %s", image)
	}
	return thing{list[0].ID, list[0].Tags[TagRole] != ""}, nil
}
