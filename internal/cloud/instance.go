package cloud

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// States of an instance.
const (
	InstancePending      = string(types.InstanceStateNamePending)
	InstanceRunning      = string(types.InstanceStateNameRunning)
	InstanceShuttingDown = string(types.InstanceStateNameShuttingDown)
	InstanceStopping     = string(types.InstanceStateNameStopping)
	InstanceStopped      = string(types.InstanceStateNameStopped)
	InstanceTerminated   = string(types.InstanceStateNameTerminated)
)

// Instance is one EC2 instance.
type Instance struct {
	ID         string
	State      string
	Reason     string // of the last change of state, when EC2 says one
	Image      string
	Type       string
	Zone       string
	Private    string // address
	Public     string // address, or empty
	RootVolume string
	Volumes    []string
	Tags       Tags
	Launched   time.Time
}

// Alive says that an instance is not on its way out.
func (i Instance) Alive() bool {
	return i.State != InstanceShuttingDown && i.State != InstanceTerminated && i.State != ""
}

// Address returns the public address, or else the private one.
func (i Instance) Address() string {
	if i.Public != "" {
		return i.Public
	}
	return i.Private
}

// InstanceSpec is what to launch.
type InstanceSpec struct {
	Token          string // client token: the same token gives the same instance
	Image          string // id
	Type           string
	Subnet         string // empty: the default one
	Zone           string // used without a subnet; empty: any
	SecurityGroups []string
	Interfaces     []NetworkInterface // beside the first one, which the subnet and the groups are of
	UserData       []byte
	Own            bool // one of our helpers: it asks for metadata with a token only
	Tags           Tags // must name this instance alone
	Options        LaunchOptions
}

// runInput is the call that runs an instance.
func (c *Client) runInput(spec InstanceSpec) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		ClientToken: optional(spec.Token), ImageId: aws.String(spec.Image), InstanceType: types.InstanceType(spec.Type),
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: optional(spec.Subnet), SecurityGroupIds: spec.SecurityGroups,
		TagSpecifications:                 c.own(spec.Tags).specification(types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeNetworkInterface),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorStop, // nobody's shutdown may delete a volume
	}
	if spec.Zone != "" && spec.Subnet == "" {
		in.Placement = &types.Placement{AvailabilityZone: aws.String(spec.Zone)}
	}
	if len(spec.UserData) > 0 {
		in.UserData = aws.String(base64.StdEncoding.EncodeToString(spec.UserData))
	}
	if spec.Own {
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired, HttpEndpoint: types.InstanceMetadataEndpointStateEnabled}
	}
	spec.Options.apply(in)
	addInterfaces(in, spec.Interfaces)
	return in
}

// RunInstance launches one instance, or returns the live one that carries the tags, or
// the one that the token has launched before. It does not wait.
func (c *Client) RunInstance(ctx context.Context, spec InstanceSpec) (Instance, error) {
	if found, ok, err := c.alive(ctx, spec.Tags); ok || err != nil {
		return found, err
	}
	out, err := c.ec2.RunInstances(ctx, c.runInput(spec))
	if code(err) == "IdempotentParameterMismatch" {
		// The token launched it before, with other user data (a secret that is not kept).
		return c.waitAlive(ctx, spec.Tags, err)
	}
	if err != nil {
		return Instance{}, fail(err, "run an instance of image %s", spec.Image)
	}
	if len(out.Instances) != 1 {
		return Instance{}, fmt.Errorf("run an instance of image %s: the cloud made %d", spec.Image, len(out.Instances))
	}
	return instanceFrom(out.Instances[0]), nil
}

func (c *Client) waitAlive(ctx context.Context, tags Tags, cause error) (Instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, settle, fail(cause, "find the instance that an earlier call launched"))
	defer cancel()
	var found Instance
	err := c.wait(ctx, "instance", nil, func(ctx context.Context) (bool, string, error) {
		i, ok, err := c.alive(ctx, tags)
		found = i
		return ok, "not visible yet", err
	})
	return found, err
}

// alive finds the oldest live instance with the tags.
func (c *Client) alive(ctx context.Context, tags Tags) (Instance, bool, error) {
	if len(tags) == 0 {
		return Instance{}, false, errors.New("run an instance: it has no tags to find it by")
	}
	list, err := c.Instances(ctx, tags)
	if err != nil {
		return Instance{}, false, err
	}
	list = slices.DeleteFunc(list, func(i Instance) bool { return !i.Alive() })
	if len(list) == 0 {
		return Instance{}, false, nil
	}
	return slices.MinFunc(list, func(a, b Instance) int { return a.Launched.Compare(b.Launched) }), true, nil
}

// Instance describes one instance.
func (c *Client) Instance(ctx context.Context, id string) (Instance, error) {
	list, err := c.instances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return Instance{}, fail(err, "describe instance %s", id)
	}
	if len(list) == 0 {
		return Instance{}, absent("InvalidInstanceID.NotFound", "describe instance %s", id)
	}
	return list[0], nil
}

// Instances lists the instances that carry all of the tags, terminated ones included.
func (c *Client) Instances(ctx context.Context, tags Tags) ([]Instance, error) {
	list, err := c.instances(ctx, &ec2.DescribeInstancesInput{Filters: c.own(tags).filters()})
	return list, fail(err, "list instances")
}

func (c *Client) instances(ctx context.Context, in *ec2.DescribeInstancesInput) ([]Instance, error) {
	var out []Instance
	pages := ec2.NewDescribeInstancesPaginator(c.ec2, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			for _, i := range r.Instances {
				out = append(out, instanceFrom(i))
			}
		}
	}
	return out, nil
}

func instanceFrom(i types.Instance) Instance {
	out := Instance{
		ID: aws.ToString(i.InstanceId), Image: aws.ToString(i.ImageId), Type: string(i.InstanceType),
		Private: aws.ToString(i.PrivateIpAddress), Public: aws.ToString(i.PublicIpAddress),
		Tags: fromTags(i.Tags), Launched: timeOf(i.LaunchTime),
	}
	if i.State != nil {
		out.State = string(i.State.Name)
	}
	if i.StateReason != nil {
		out.Reason = aws.ToString(i.StateReason.Message)
	}
	if i.Placement != nil {
		out.Zone = aws.ToString(i.Placement.AvailabilityZone)
	}
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil {
			continue
		}
		id := aws.ToString(m.Ebs.VolumeId)
		out.Volumes = append(out.Volumes, id)
		if aws.ToString(m.DeviceName) == aws.ToString(i.RootDeviceName) && i.RootDeviceName != nil {
			out.RootVolume = id
		}
	}
	return out
}

// WaitInstance waits until an instance is in the state. One that has ended instead ends the wait.
func (c *Client) WaitInstance(ctx context.Context, id, state string, progress Progress) (Instance, error) {
	var inst Instance
	err := c.wait(ctx, "instance "+id+" to be "+state, progress, func(ctx context.Context) (bool, string, error) {
		var err error
		if inst, err = c.Instance(ctx, id); err != nil {
			return false, "", err
		}
		if inst.State != state && !inst.Alive() && state != InstanceTerminated {
			return false, inst.State, fmt.Errorf("instance %s is %s, wanted %s: %s", id, inst.State, state, inst.Reason)
		}
		return inst.State == state, inst.State, nil
	})
	return inst, err
}

// TerminateInstance terminates an instance and waits for it; one that is gone is no error.
func (c *Client) TerminateInstance(ctx context.Context, id string, progress Progress) error {
	_, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if err = fail(err, "terminate instance %s", id); NotFound(err) {
		return nil
	} else if err != nil {
		return err
	}
	return c.wait(ctx, "the end of instance "+id, progress, func(ctx context.Context) (bool, string, error) {
		inst, err := c.Instance(ctx, id)
		if NotFound(err) {
			return true, "", nil
		}
		return inst.State == InstanceTerminated, inst.State, err
	})
}

// Screenshot returns an image of what an instance shows on its screen: a JPEG, of a local cloud a PNG.
func (c *Client) Screenshot(ctx context.Context, id string) ([]byte, error) {
	out, err := c.ec2.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: aws.String(id), WakeUp: aws.Bool(true)})
	if err != nil {
		return nil, fail(err, "read the screen of instance %s", id)
	}
	image, err := base64.StdEncoding.DecodeString(aws.ToString(out.ImageData))
	if err != nil {
		return nil, fmt.Errorf("decode the screen of instance %s: %w", id, err)
	}
	return image, nil
}

// ConsoleOutput returns the latest text of an instance's serial console; it may be empty.
func (c *Client) ConsoleOutput(ctx context.Context, id string) (string, error) {
	out, err := c.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: aws.String(id), Latest: aws.Bool(true)})
	if code(err) == "UnsupportedOperation" { // only Nitro instances have the latest; of others there is what EC2 kept
		out, err = c.ec2.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: aws.String(id)})
	}
	if err != nil {
		return "", fail(err, "read the console of instance %s", id)
	}
	text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output))
	if err != nil {
		return "", fmt.Errorf("decode the console of instance %s: %w", id, err)
	}
	return string(text), nil
}
