package localcloud_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/internal/command"
	"rehost/localcloud"
)

// efiDisk writes a disk of 1 MiB that UEFI firmware can boot: a FAT filesystem
// with the program of testdata/counter.c where firmware looks for one.
func efiDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(path("disk.raw"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range [][]string{
		{
			"gcc", "-Os", "-ffreestanding", "-fpie", "-mabi=ms", "-mno-red-zone", "-mno-sse", "-fno-stack-protector", "-fno-ident",
			"-fno-asynchronous-unwind-tables", "-c", "-o", path("counter.o"), "testdata/counter.c",
		},
		{"ld", "-m", "i386pep", "--subsystem", "10", "-e", "start", "-s", "-o", path("counter.efi"), path("counter.o")},
		{"mformat", "-i", path("disk.raw"), "-h", "2", "-t", "16", "-s", "63", "::"},
		{"mmd", "-i", path("disk.raw"), "::EFI", "::EFI/BOOT"},
		{"mcopy", "-i", path("disk.raw"), path("counter.efi"), "::EFI/BOOT/BOOTX64.EFI"},
	} {
		if _, err := command.Run(t.Context(), line[0], line[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	return path("disk.raw")
}

// Instances boot by the firmware that their image needs, each with variables of
// its own that outlive reboots and stops; a type without that firmware is refused.
func TestUEFI(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir, localcloud.Image{Name: "counter", Path: efiDisk(t)}))
	ctx := t.Context()
	root := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(ctx, nil)).Images[0].BlockDeviceMappings[0].Ebs.SnapshotId
	register := func(mode types.BootModeValues) *string {
		return must[*ec2.RegisterImageOutput](t)(c.RegisterImage(ctx, &ec2.RegisterImageInput{
			Name: aws.String(string(mode)), Architecture: types.ArchitectureValuesX8664, BootMode: mode, RootDeviceName: aws.String("/dev/sda1"),
			BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: root}}},
		})).ImageId
	}
	needs, prefers := register(types.BootModeValuesUefi), register(types.BootModeValuesUefiPreferred)
	launch := func(image *string, kind types.InstanceType) string {
		return *run(t, c, &ec2.RunInstancesInput{ImageId: image, InstanceType: kind}).InstanceId
	}
	booted := func(id, times string) func() bool {
		return func() bool { return strings.Contains(console(t, c, id), "booted by UEFI, time "+times) }
	}

	_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: needs, InstanceType: types.InstanceTypeT2Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	wantCode(t, err, "InvalidParameterValue")
	if !strings.Contains(err.Error(), "The t2.micro instance type does not support an AMI with a boot mode of UEFI.") {
		t.Errorf("not EC2's words: %v", err)
	}
	if left := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes; len(left) != 0 {
		t.Errorf("the refused launch left %d volumes", len(left))
	}

	first, other, old := launch(needs, types.InstanceTypeT3Nano), launch(prefers, types.InstanceTypeT3Nano), launch(prefers, types.InstanceTypeT2Micro)
	for id, want := range map[string]types.InstanceBootModeValues{
		first: types.InstanceBootModeValuesUefi, other: types.InstanceBootModeValuesUefi, old: types.InstanceBootModeValuesLegacyBios,
	} {
		if in := describe(t, c, id); in.CurrentInstanceBootMode != want {
			t.Errorf("%s of an image with boot mode %s boots by %s, want %s", in.InstanceType, in.BootMode, in.CurrentInstanceBootMode, want)
		}
	}
	eventually(t, 2*time.Minute, "the image that needs UEFI", booted(first, "1"))
	eventually(t, 2*time.Minute, "the image that prefers UEFI", booted(other, "1"))
	if strings.Contains(console(t, c, old), "UEFI") {
		t.Errorf("a type without UEFI has it:\n%s", console(t, c, old))
	}
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{other, old}}))

	must[*ec2.RebootInstancesOutput](t)(c.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{first}}))
	eventually(t, 2*time.Minute, "the variable to have outlived a reboot", booted(first, "2"))
	must[*ec2.StopInstancesOutput](t)(c.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{first}, Force: aws.Bool(true)}))
	eventually(t, 10*time.Second, "the guest to stop", inState(t, c, first, types.InstanceStateNameStopped))
	_, err = c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &first, InstanceType: &types.AttributeValue{Value: aws.String("t2.micro")}})
	wantCode(t, err, "InvalidParameterValue")
	must[*ec2.StartInstancesOutput](t)(c.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{first}}))
	eventually(t, 2*time.Minute, "the variable to have outlived a stop", booted(first, "3"))

	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{first}}))
	eventually(t, 10*time.Second, "folders with nothing but the consoles", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "instances", "*", "[^c]*"))
		return len(left) == 0
	})
}
