package localcloud_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/localcloud"
)

// What a boot sector does after it wrote its message to the serial port.
var (
	halts     = []byte{0xf4, 0xeb, 0xfd}                                           // hlt; jmp
	powersOff = []byte{0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd} // mov dx,0x604; mov ax,0x2000; out dx,ax
)

// bootDisk writes a disk of 1 MiB that the BIOS can boot: the smallest guest there is.
func bootDisk(t *testing.T, message string, then []byte) string {
	t.Helper()
	code := []byte{
		0x31, 0xc0, 0x8e, 0xd8, // xor ax,ax; mov ds,ax
		0xbe, 0, 0x7c, // mov si,message
		0xac, 0x84, 0xc0, 0x74, 0x06, // lodsb; test al,al; jz end
		0xba, 0xf8, 0x03, 0xee, 0xeb, 0xf5, // mov dx,0x3f8; out dx,al; jmp lodsb
	}
	code = append(code, then...)
	code[5] = byte(len(code))
	sector := make([]byte, 1<<20)
	copy(sector, append(code, message+"\r\n\x00"...))
	sector[510], sector[511] = 0x55, 0xaa
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestGuestBootsFromNVMe(t *testing.T) {
	dir := t.TempDir()
	cfg := testConfig(dir, localcloud.Image{Name: "halts", Path: bootDisk(t, "booted and waiting", halts)},
		localcloud.Image{Name: "powers-off", Path: bootDisk(t, "booted and leaving", powersOff)})
	c, stop := start(t, cfg)
	ctx := t.Context()
	data := createVolume(t, c, 1)
	snap := must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: data.VolumeId}))
	kept := *run(t, c, &ec2.RunInstancesInput{
		ImageId: imageID(t, c, "halts"), InstanceType: "t3.nano", TagSpecifications: tagSpec(types.ResourceTypeVolume, "of", "guest"),
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{SnapshotId: snap.SnapshotId, DeleteOnTermination: aws.Bool(false)}},
		},
	}).InstanceId
	leaves := *run(t, c, &ec2.RunInstancesInput{
		ImageId: imageID(t, c, "powers-off"), InstanceType: "t3.nano", InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
	}).InstanceId
	stays := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "powers-off"), InstanceType: "t3.nano"}).InstanceId

	eventually(t, 20*time.Second, "the guest's message", func() bool { return strings.Contains(console(t, c, kept), "booted and waiting") })
	eventually(t, 20*time.Second, "a guest that powered down to be terminated", inState(t, c, leaves, types.InstanceStateNameTerminated))
	eventually(t, 20*time.Second, "a guest that powered down to be stopped", inState(t, c, stays, types.InstanceStateNameStopped))
	if in := describe(t, c, kept); in.State.Name != types.InstanceStateNameRunning || len(in.BlockDeviceMappings) != 2 || *in.RootDeviceName != *in.BlockDeviceMappings[0].DeviceName {
		t.Errorf("the guest: %s, devices %+v", in.State.Name, in.BlockDeviceMappings)
	}
	shot := must[*ec2.GetConsoleScreenshotOutput](t)(c.GetConsoleScreenshot(ctx, &ec2.GetConsoleScreenshotInput{InstanceId: &kept}))
	if png, err := base64.StdEncoding.DecodeString(*shot.ImageData); err != nil || !bytes.HasPrefix(png, []byte("\x89PNG")) {
		t.Errorf("screenshot: %v, %d bytes", err, len(png))
	}

	must[*ec2.RebootInstancesOutput](t)(c.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{kept}}))
	eventually(t, 20*time.Second, "the message again", func() bool { return strings.Count(console(t, c, kept), "booted and waiting") == 2 })
	must[*ec2.StopInstancesOutput](t)(c.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{kept}, Force: aws.Bool(true)}))
	eventually(t, 10*time.Second, "the guest to stop", inState(t, c, kept, types.InstanceStateNameStopped))
	must[*ec2.StartInstancesOutput](t)(c.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{kept}}))
	eventually(t, 20*time.Second, "the message a third time", func() bool { return strings.Count(console(t, c, kept), "booted and waiting") == 3 })

	stop()
	c, _ = start(t, cfg)
	if in := describe(t, c, kept); in.State.Name != types.InstanceStateNameStopped || *in.StateReason.Code != "Server.ScheduledStop" {
		t.Errorf("after a restart the guest is %s, %+v", in.State.Name, in.StateReason)
	}
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{kept, stays}}))
	left := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes
	if len(left) != 2 {
		t.Errorf("%d volumes left, want the data volume and its kept clone", len(left))
	}
}

func TestImageOfASnapshot(t *testing.T) {
	c, _ := start(t, testConfig(t.TempDir(), localcloud.Image{Name: "base", Path: bootDisk(t, "a registered image", halts)}))
	ctx := t.Context()
	base := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(ctx, nil)).Images[0]
	root := base.BlockDeviceMappings[0].Ebs.SnapshotId
	register := func(name string, devices ...types.BlockDeviceMapping) (*ec2.RegisterImageOutput, error) {
		return c.RegisterImage(ctx, &ec2.RegisterImageInput{
			Name: &name, RootDeviceName: aws.String("/dev/sda1"), Architecture: types.ArchitectureValuesX8664, BootMode: types.BootModeValuesLegacyBios,
			EnaSupport: aws.Bool(true), VirtualizationType: aws.String("hvm"), BlockDeviceMappings: devices,
			TagSpecifications: tagSpec(types.ResourceTypeImage, "rehost:job", "1"),
		})
	}
	device := types.BlockDeviceMapping{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: root, VolumeType: types.VolumeTypeGp3}}
	_, err := register("no root")
	wantCode(t, err, "InvalidBlockDeviceMapping")
	made := must[*ec2.RegisterImageOutput](t)(register("mine", device))
	_, err = register("mine", device)
	wantCode(t, err, "InvalidAMIName.Duplicate")
	_, err = c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: root})
	wantCode(t, err, "InvalidSnapshot.InUse")
	found := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Filters: []types.Filter{{Name: aws.String("tag:rehost:job"), Values: []string{"1"}}, {Name: aws.String("state"), Values: []string{"available"}}},
	})).Images
	if len(found) != 1 || *found[0].ImageId != *made.ImageId || found[0].BootMode != types.BootModeValuesLegacyBios || !*found[0].EnaSupport {
		t.Errorf("images: %+v", found)
	}
	id := *run(t, c, &ec2.RunInstancesInput{
		ImageId: made.ImageId, InstanceType: "t3.nano",
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(3)}}},
	}).InstanceId
	eventually(t, 20*time.Second, "the guest's message", func() bool { return strings.Contains(console(t, c, id), "a registered image") })
	if v := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes[0]; *v.Size != 3 || *v.SnapshotId != *root || !*v.Attachments[0].DeleteOnTermination {
		t.Errorf("root volume: %+v", v)
	}
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))
	eventually(t, 5*time.Second, "termination", inState(t, c, id, types.InstanceStateNameTerminated))
	if vs := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes; len(vs) != 0 {
		t.Errorf("volumes left: %+v", vs)
	}
	must[*ec2.DeregisterImageOutput](t)(c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: made.ImageId}))
}
