package cloud

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/internal/hint"
)

const gib = 1 << 30

// Volume is one EBS volume.
type Volume struct {
	ID         string
	State      string // creating, available, in-use, deleting, deleted, error
	Zone       string
	Type       string // gp3, st1, ...
	Snapshot   string // that it was made from
	SizeBytes  int64
	Instance   string // that it is attached to, or empty
	Attachment string // attaching, attached, detaching, or empty
	Device     string
	Tags       Tags
	Created    time.Time
}

// VolumeSpec is what to create. The size is rounded up to whole GiB.
type VolumeSpec struct {
	Token     string // client token: the same token gives the same volume
	Zone      string
	SizeBytes int64  // 0: the snapshot's
	Snapshot  string // empty: an empty volume
	Type      string // empty: gp3
	IOPS      int    // 0: what the type gives by itself
	MiBps     int    // throughput of a gp3 volume in MiB/s; 0: 125
	KMSKey    string // id, alias or ARN of the key that encrypts it; empty: the account's own rule
	InitMiBps int    // EBS's initialization rate of a volume from a snapshot, 100 to 300 MiB/s, at its price; 0: as blocks are asked for
	Tags      Tags
}

// volumeInput is the call that creates a volume.
func (c *Client) volumeInput(spec VolumeSpec) *ec2.CreateVolumeInput {
	in := &ec2.CreateVolumeInput{
		AvailabilityZone:  optional(spec.Zone),
		ClientToken:       optional(spec.Token),
		SnapshotId:        optional(spec.Snapshot),
		VolumeType:        types.VolumeTypeGp3,
		TagSpecifications: c.own(spec.Tags).specification(types.ResourceTypeVolume),
	}
	if spec.Type != "" {
		in.VolumeType = types.VolumeType(spec.Type)
	}
	if spec.SizeBytes > 0 {
		in.Size = aws.Int32(int32((spec.SizeBytes + gib - 1) / gib))
	}
	in.Iops, in.Throughput = number(spec.IOPS), number(spec.MiBps)
	if spec.Snapshot != "" {
		in.VolumeInitializationRate = number(spec.InitMiBps)
	}
	if spec.KMSKey != "" {
		in.Encrypted, in.KmsKeyId = aws.Bool(true), aws.String(spec.KMSKey)
	}
	return in
}

// CreateVolume creates a volume, or returns the one that the token has created before.
// It does not wait; see [Client.WaitVolume].
func (c *Client) CreateVolume(ctx context.Context, spec VolumeSpec) (Volume, error) {
	out, err := c.ec2.CreateVolume(ctx, c.volumeInput(spec))
	if err != nil {
		return Volume{}, fail(err, "create volume of %d bytes in %s", spec.SizeBytes, spec.Zone)
	}
	c.logger.Debug("volume created", "volume", aws.ToString(out.VolumeId), "token", spec.Token)
	return Volume{
		ID: aws.ToString(out.VolumeId), State: string(out.State), Zone: aws.ToString(out.AvailabilityZone), Type: string(out.VolumeType),
		Snapshot: aws.ToString(out.SnapshotId), SizeBytes: int64(aws.ToInt32(out.Size)) * gib,
		Tags: fromTags(out.Tags), Created: timeOf(out.CreateTime),
	}, nil
}

// Volume describes one volume.
func (c *Client) Volume(ctx context.Context, id string) (Volume, error) {
	list, err := c.volumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if err != nil {
		return Volume{}, fail(err, "describe volume %s", id)
	}
	if len(list) == 0 {
		return Volume{}, absent("InvalidVolume.NotFound", "describe volume %s", id)
	}
	return list[0], nil
}

// Volumes lists the volumes that carry all of the tags.
func (c *Client) Volumes(ctx context.Context, tags Tags) ([]Volume, error) {
	list, err := c.volumes(ctx, &ec2.DescribeVolumesInput{Filters: c.own(tags).filters()})
	return list, fail(err, "list volumes")
}

func (c *Client) volumesOf(ctx context.Context, instance string) ([]Volume, error) {
	list, err := c.volumes(ctx, &ec2.DescribeVolumesInput{Filters: []types.Filter{filter("attachment.instance-id", instance)}})
	return list, fail(err, "list the volumes of instance %s", instance)
}

func (c *Client) volumes(ctx context.Context, in *ec2.DescribeVolumesInput) ([]Volume, error) {
	var out []Volume
	pages := ec2.NewDescribeVolumesPaginator(c.ec2, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Volumes {
			out = append(out, volumeFrom(v))
		}
	}
	return out, nil
}

func volumeFrom(v types.Volume) Volume {
	out := Volume{
		ID: aws.ToString(v.VolumeId), State: string(v.State), Zone: aws.ToString(v.AvailabilityZone), Type: string(v.VolumeType),
		Snapshot: aws.ToString(v.SnapshotId), SizeBytes: int64(aws.ToInt32(v.Size)) * gib,
		Tags: fromTags(v.Tags), Created: timeOf(v.CreateTime),
	}
	for _, a := range v.Attachments {
		if a.State == types.VolumeAttachmentStateDetached {
			continue
		}
		out.Instance = aws.ToString(a.InstanceId)
		out.Attachment = string(a.State)
		out.Device = aws.ToString(a.Device)
	}
	return out
}

// WaitVolume waits until a volume can be used: available, or attached already.
func (c *Client) WaitVolume(ctx context.Context, id string, progress Progress) (Volume, error) {
	var v Volume
	err := c.wait(ctx, "volume "+id, progress, func(ctx context.Context) (bool, string, error) {
		var err error
		if v, err = c.Volume(ctx, id); err != nil {
			return false, "", err
		}
		if v.State == string(types.VolumeStateError) || v.State == string(types.VolumeStateDeleted) {
			return false, v.State, hint.New(fmt.Sprintf("volume %s is in state %s", id, v.State),
				"if it is encrypted, check that `kms_key` exists and that its policy lets the controller's role use it: EC2 says no more about it")
		}
		return v.State == string(types.VolumeStateAvailable) || v.State == string(types.VolumeStateInUse), v.State, nil
	})
	return v, err
}

// AttachVolume attaches a volume to an instance and waits until it is there. A volume
// that is attached to that instance already is left alone, and a detachment that goes on is
// waited for; one that is attached to another is refused.
func (c *Client) AttachVolume(ctx context.Context, volume, instance string, progress Progress) error {
	if _, err := c.WaitVolume(ctx, volume, progress); err != nil {
		return err
	}
	return c.wait(ctx, "attachment of volume "+volume, progress, func(ctx context.Context) (bool, string, error) {
		v, err := c.Volume(ctx, volume)
		switch {
		case err != nil:
			return false, "", err
		case v.Instance == "":
			return false, "attaching", c.attach(ctx, volume, instance)
		case v.Attachment == string(types.VolumeAttachmentStateDetaching): // from whatever it is
		case v.Instance != instance:
			return false, "", hint.New(fmt.Sprintf("volume %s is attached to instance %s, wanted on %s", volume, v.Instance, instance),
				"detach it from "+v.Instance+" when that instance is not needed")
		}
		return v.Attachment == string(types.VolumeAttachmentStateAttached), v.Attachment, nil
	})
}

// attach asks for the attachment, under a device name that is free. Someone else may take that name
// meanwhile; then another one is tried.
func (c *Client) attach(ctx context.Context, volume, instance string) error {
	c.attaching.Lock()
	defer c.attaching.Unlock()
	err := c.attachOnce(ctx, volume, instance)
	for range attachAttempts - 1 {
		if code(err) != "InvalidParameterValue" || !strings.Contains(err.Error(), "already in use") {
			break
		}
		err = c.attachOnce(ctx, volume, instance)
	}
	return err
}

// attachAttempts bounds how often a device name may turn out to be taken.
const attachAttempts = 5

func (c *Client) attachOnce(ctx context.Context, volume, instance string) error {
	device, err := c.freeDevice(ctx, instance)
	if err != nil {
		return err
	}
	_, err = c.ec2.AttachVolume(ctx, &ec2.AttachVolumeInput{
		VolumeId: aws.String(volume), InstanceId: aws.String(instance), Device: aws.String(device),
	})
	if code(err) == "VolumeInUse" {
		return nil // by an earlier call whose response was lost, or which is not shown yet; the wait sees to whom
	}
	return fail(err, "attach volume %s to %s as %s", volume, instance, device)
}

func (c *Client) freeDevice(ctx context.Context, instance string) (string, error) {
	list, err := c.volumesOf(ctx, instance)
	if err != nil {
		return "", err
	}
	used := map[string]bool{}
	for _, v := range list {
		used[v.Device] = true
	}
	for i := range deviceLetters {
		if name := deviceName(i); !used[name] {
			return name, nil
		}
	}
	return "", hint.New(fmt.Sprintf("instance %s has no free device name", instance), "lower `volumes_per_server` in the replication block")
}

// deviceLetters are the ones that EC2 recommends for data volumes, and then the rest.
const deviceLetters = "fghijklmnopqrstuvwxyzbcde"

func deviceName(i int) string { return "/dev/sd" + deviceLetters[i:i+1] }

// DetachVolume detaches a volume from whatever it is attached to, and waits. It asks again as long as the volume is
// shown attached: EC2 refuses while an attachment goes on.
func (c *Client) DetachVolume(ctx context.Context, volume string, progress Progress) error {
	if err := c.detach(ctx, volume); err != nil {
		return err
	}
	return c.wait(ctx, "detachment of volume "+volume, progress, func(ctx context.Context) (bool, string, error) {
		v, err := c.Volume(ctx, volume)
		if err == nil && v.Attachment == string(types.VolumeAttachmentStateAttached) {
			err = c.detach(ctx, volume)
		}
		return v.Instance == "", v.Attachment, err
	})
}

// detach asks for the end of an attachment; that there is none, or not yet one to end, is no error.
func (c *Client) detach(ctx context.Context, volume string) error {
	_, err := c.ec2.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: aws.String(volume)})
	if c := code(err); c == "IncorrectState" || c == "InvalidAttachment.NotFound" {
		return nil
	}
	return fail(err, "detach volume %s", volume)
}

// DeleteVolume detaches and deletes a volume; one that is gone is no error.
func (c *Client) DeleteVolume(ctx context.Context, volume string) error {
	v, err := c.Volume(ctx, volume)
	if NotFound(err) || v.State == string(types.VolumeStateDeleting) || v.State == string(types.VolumeStateDeleted) {
		return nil
	}
	if err != nil {
		return err
	}
	if v.Instance != "" {
		if err := c.DetachVolume(ctx, volume, nil); err != nil && !NotFound(err) {
			return err
		}
	}
	_, err = c.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: aws.String(volume)})
	if err = fail(err, "delete volume %s", volume); NotFound(err) {
		return nil
	}
	return err
}

// absent makes the error that EC2 gives for a thing that is not there, for the calls that answer with an empty list instead.
func absent(code, format string, args ...any) error {
	return &Error{Op: fmt.Sprintf(format, args...), Code: code, err: fmt.Errorf("no such thing")}
}
