package localcloud_test

import (
	"encoding/base64"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"

	"rehost/localcloud"
)

func TestQuotas(t *testing.T) {
	cfg := testConfig(t.TempDir(), processImage)
	cfg.Quotas = localcloud.Quotas{VCPUs: 2, Volumes: 2, Snapshots: 1, StorageGiB: 3}
	c, _ := start(t, cfg)
	ctx := t.Context()
	v := createVolume(t, c, 1)
	_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), Size: aws.Int32(3)})
	wantCode(t, err, "VolumeLimitExceeded")
	_, err = c.ModifyVolume(ctx, &ec2.ModifyVolumeInput{VolumeId: v.VolumeId, Size: aws.Int32(4)})
	wantCode(t, err, "VolumeLimitExceeded")
	createVolume(t, c, 1)
	_, err = c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), Size: aws.Int32(1)})
	wantCode(t, err, "VolumeLimitExceeded")
	must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: v.VolumeId}))
	_, err = c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: v.VolumeId})
	wantCode(t, err, "SnapshotLimitExceeded")

	first := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "worker")}).InstanceId
	second := func() error {
		_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: imageID(t, c, "worker"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
		return err
	}
	wantCode(t, second(), "VcpuLimitExceeded")
	eventually(t, 5*time.Second, "the instance to run", inState(t, c, first, types.InstanceStateNameRunning))
	must[*ec2.StopInstancesOutput](t)(c.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{first}}))
	eventually(t, 5*time.Second, "the instance to stop", inState(t, c, first, types.InstanceStateNameStopped))
	if err := second(); err != nil {
		t.Errorf("with the first one stopped: %v", err)
	}
	_, err = c.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{first}})
	wantCode(t, err, "VcpuLimitExceeded")
	if n := len(must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes); n != 2 {
		t.Errorf("%d volumes, want the two that fit", n)
	}
}

func TestDeniedActionsAreNamed(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Denied = []string{"ec2:Delete*"}
	c, _ := start(t, cfg)
	v := createVolume(t, c, 1)
	_, err := c.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: v.VolumeId, DryRun: aws.Bool(true)})
	wantCode(t, err, "UnauthorizedOperation")
	if err == nil || !strings.Contains(err.Error(), "ec2:DeleteVolume") {
		t.Errorf("%v does not name the action", err)
	}
	must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}}))
}

func TestStatesTakeTheirTime(t *testing.T) {
	cfg := testConfig(t.TempDir(), processImage)
	cfg.StateDelay = time.Second
	c, _ := start(t, cfg)
	ctx := t.Context()
	v := createVolume(t, c, 1)
	if v.State != types.VolumeStateCreating {
		t.Errorf("a new volume is %s", v.State)
	}
	_, err := c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: v.VolumeId})
	wantCode(t, err, "IncorrectState")
	id := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "worker")}).InstanceId
	if got := describe(t, c, id).State.Name; got != types.InstanceStateNamePending {
		t.Errorf("a new instance is %s", got)
	}
	status := func(want types.VolumeState) func() bool {
		return func() bool {
			return must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes[0].State == want
		}
	}
	eventually(t, 5*time.Second, "the volume to be available", status(types.VolumeStateAvailable))
	snap := must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: v.VolumeId}))
	if snap.State != types.SnapshotStatePending {
		t.Errorf("a new snapshot is %s", snap.State)
	}
	again := &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), SnapshotId: snap.SnapshotId}
	_, err = c.CreateVolume(ctx, again)
	wantCode(t, err, "IncorrectState")
	eventually(t, 5*time.Second, "the snapshot to be complete", func() bool { _, err := c.CreateVolume(ctx, again); return err == nil })
	eventually(t, 5*time.Second, "the instance to run", inState(t, c, id, types.InstanceStateNameRunning))
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))
	if got := describe(t, c, id).State.Name; got != types.InstanceStateNameShuttingDown {
		t.Errorf("an instance that is terminated is %s", got)
	}
	eventually(t, 5*time.Second, "the instance to be terminated", inState(t, c, id, types.InstanceStateNameTerminated))
}

// A launch template, the key pair that it names, and what the instance finds in its metadata.
func TestLaunchFromTemplateWithKey(t *testing.T) {
	c, _ := start(t, testConfig(t.TempDir(), processImage))
	ctx := t.Context()
	key := must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k"), KeyType: types.KeyTypeRsa}))
	private := must[ssh.Signer](t)(ssh.ParsePrivateKey([]byte(*key.KeyMaterial)))
	if len(*key.KeyFingerprint) != 59 {
		t.Errorf("fingerprint %s, want 20 bytes", *key.KeyFingerprint)
	}
	template := must[*ec2.CreateLaunchTemplateOutput](t)(c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("t"), LaunchTemplateData: &types.RequestLaunchTemplateData{
			ImageId: imageID(t, c, "worker"), KeyName: aws.String("k"), InstanceType: types.InstanceTypeT3Nano, UserData: aws.String(base64.StdEncoding.EncodeToString([]byte("from t"))),
			BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{
				{DeviceName: aws.String("/dev/sdf"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{VolumeSize: aws.Int32(1)}},
			},
			TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{
				{Key: aws.String("a"), Value: aws.String("template")}, {Key: aws.String("b"), Value: aws.String("template")},
			}}},
		},
	})).LaunchTemplate
	in := run(t, c, &ec2.RunInstancesInput{
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateId: template.LaunchTemplateId}, InstanceType: types.InstanceTypeT3Small,
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(2)}},
			{DeviceName: aws.String("/dev/sdg"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1)}},
		},
		TagSpecifications: tagSpec(types.ResourceTypeInstance, "b", "launch"),
	})
	tags := map[string]string{}
	for _, tag := range in.Tags {
		tags[*tag.Key] = *tag.Value
	}
	if in.InstanceType != types.InstanceTypeT3Small || *in.KeyName != "k" || tags["a"] != "template" || tags["b"] != "launch" || len(in.BlockDeviceMappings) != 2 {
		t.Errorf("launched: %s, key %s, tags %v, %d devices", in.InstanceType, *in.KeyName, tags, len(in.BlockDeviceMappings))
	}
	sizes := int32(0)
	for _, v := range must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes {
		sizes += *v.Size
	}
	if sizes != 3 {
		t.Errorf("volumes of %d GiB, want 2 for /dev/sdf and 1 for /dev/sdg", sizes)
	}
	eventually(t, 5*time.Second, "the program", func() bool { return len(starts(t, c, *in.InstanceId)) == 1 })
	m := imds.New(imds.Options{Endpoint: starts(t, c, *in.InstanceId)[0][2]})
	metadata := func(path string) string {
		t.Helper()
		out := must[*imds.GetMetadataOutput](t)(m.GetMetadata(ctx, &imds.GetMetadataInput{Path: path}))
		return string(must[[]byte](t)(io.ReadAll(out.Content)))
	}
	if got := metadata("public-keys/"); got != "0=k" {
		t.Errorf("public keys %q", got)
	}
	if got, want := metadata("public-keys/0/openssh-key"), string(ssh.MarshalAuthorizedKey(private.PublicKey())); got != want {
		t.Errorf("the key in the metadata is %q, want %q", got, want)
	}
	if list := metadata(""); !strings.Contains(list, "public-keys/\n") || strings.Contains(list, "public-keys\n") {
		t.Errorf("metadata: %q", list)
	}
	_, err := c.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{LaunchTemplateId: template.LaunchTemplateId, Versions: []string{"1"}})
	wantCode(t, err, "InvalidLaunchTemplateId.VersionInUse")
	_, err = c.RunInstances(ctx, &ec2.RunInstancesInput{
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("t"), Version: aws.String("7")}, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	})
	wantCode(t, err, "InvalidLaunchTemplateId.VersionNotFound")
}
