package cloud

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/internal/hint"
)

// rootDevice is the root's name in the images that we register.
const rootDevice = "/dev/xvda"

// Image is one machine image.
type Image struct {
	ID        string
	Name      string
	State     string
	BootMode  string
	Snapshots []string
	Tags      Tags
}

// ImageSpec is what to register.
type ImageSpec struct {
	Name     string // unique in the account, and so the proof that it exists already
	Root     string // snapshot
	Data     []string
	BootMode string // bios or uefi
	Tags     Tags
}

// FindImage finds an image by id, or one of our own by name: a stranger's public image of the same name is never taken.
func (c *Client) FindImage(ctx context.Context, nameOrID string) (Image, error) {
	in := &ec2.DescribeImagesInput{ImageIds: []string{nameOrID}}
	if !strings.HasPrefix(nameOrID, "ami-") {
		in = &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: []types.Filter{filter("name", nameOrID)}}
	}
	list, err := c.images(ctx, in)
	if err != nil {
		return Image{}, fail(err, "find image %s", nameOrID)
	}
	if len(list) == 0 {
		return Image{}, hint.Wrap(absent("InvalidAMIID.NotFound", "find image %s", nameOrID),
			"register the image "+nameOrID+" in the account, or name another one in the replication or launch block")
	}
	return list[0], nil
}

// Images lists our own images that carry all of the tags.
func (c *Client) Images(ctx context.Context, tags Tags) ([]Image, error) {
	list, err := c.images(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: c.own(tags).filters()})
	return list, fail(err, "list images")
}

func (c *Client) images(ctx context.Context, in *ec2.DescribeImagesInput) ([]Image, error) {
	var out []Image
	pages := ec2.NewDescribeImagesPaginator(c.ec2, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, i := range page.Images {
			image := Image{
				ID: aws.ToString(i.ImageId), Name: aws.ToString(i.Name), State: string(i.State), BootMode: string(i.BootMode), Tags: fromTags(i.Tags),
			}
			for _, m := range i.BlockDeviceMappings {
				if m.Ebs != nil && m.Ebs.SnapshotId != nil {
					image.Snapshots = append(image.Snapshots, *m.Ebs.SnapshotId)
				}
			}
			out = append(out, image)
		}
	}
	return out, nil
}

// RegisterImage makes an image of snapshots, or returns the one of that name, and waits until it is available.
func (c *Client) RegisterImage(ctx context.Context, spec ImageSpec, progress Progress) (Image, error) {
	image, err := c.FindImage(ctx, spec.Name)
	if err != nil && !NotFound(err) {
		return Image{}, err
	}
	if err != nil {
		if image, err = c.register(ctx, spec); err != nil {
			return Image{}, err
		}
	}
	err = c.wait(ctx, "image "+spec.Name, progress, func(ctx context.Context) (bool, string, error) {
		list, err := c.images(ctx, &ec2.DescribeImagesInput{ImageIds: []string{image.ID}})
		if err != nil || len(list) == 0 {
			return false, "not visible yet", fail(err, "describe image %s", image.ID)
		}
		image = list[0]
		if image.State == string(types.ImageStateFailed) || image.State == string(types.ImageStateInvalid) {
			return false, image.State, fmt.Errorf("image %s is in state %s", image.ID, image.State)
		}
		return image.State == string(types.ImageStateAvailable), image.State, nil
	})
	return image, err
}

// imageInput is the call that registers an image.
func (c *Client) imageInput(spec ImageSpec) *ec2.RegisterImageInput {
	in := &ec2.RegisterImageInput{
		Name: aws.String(spec.Name), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"),
		EnaSupport: aws.Bool(true), RootDeviceName: aws.String(rootDevice), BootMode: types.BootModeValuesLegacyBios,
		BlockDeviceMappings: []types.BlockDeviceMapping{mapping(rootDevice, spec.Root)},
		TagSpecifications:   c.own(spec.Tags).specification(types.ResourceTypeImage),
	}
	if spec.BootMode == "uefi" {
		in.BootMode = types.BootModeValuesUefi
	}
	for i, s := range spec.Data {
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, mapping(deviceName(i), s))
	}
	return in
}

// register registers the image, or finds the one of that name which an earlier call made without an answer.
func (c *Client) register(ctx context.Context, spec ImageSpec) (image Image, err error) {
	out, err := c.ec2.RegisterImage(ctx, c.imageInput(spec))
	if code(err) == "InvalidAMIName.Duplicate" {
		err = c.wait(ctx, "image "+spec.Name, nil, func(ctx context.Context) (bool, string, error) {
			image, err = c.FindImage(ctx, spec.Name)
			return err == nil, "", err
		})
		return image, err
	}
	if err != nil {
		return Image{}, fail(err, "register image %s", spec.Name)
	}
	return Image{ID: aws.ToString(out.ImageId)}, nil
}

func mapping(device, snapshot string) types.BlockDeviceMapping {
	return types.BlockDeviceMapping{DeviceName: aws.String(device), Ebs: &types.EbsBlockDevice{
		SnapshotId: aws.String(snapshot), VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(true),
	}}
}

// DeregisterImage removes an image, not its snapshots; one that is gone is no error.
func (c *Client) DeregisterImage(ctx context.Context, id string) error {
	_, err := c.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: aws.String(id)})
	if err = fail(err, "deregister image %s", id); NotFound(err) {
		return nil
	}
	return err
}
