package cloud

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestLaunchOptions(t *testing.T) {
	zone := &types.Placement{AvailabilityZone: aws.String("z1")}
	for name, c := range map[string]struct {
		options LaunchOptions
		want    ec2.RunInstancesInput
	}{
		"none": {LaunchOptions{}, ec2.RunInstancesInput{Placement: zone}},
		"all": {
			LaunchOptions{
				PrivateIP: "10.0.0.7", Profile: "web", Tenancy: "dedicated", HTTPTokens: "required", HopLimit: 2,
				Volumes: []VolumeOptions{{Type: "gp3", IOPS: 4000, MiBps: 250}, {}, {Type: "io2", IOPS: 9000}},
			},
			ec2.RunInstancesInput{
				PrivateIpAddress: aws.String("10.0.0.7"), IamInstanceProfile: &types.IamInstanceProfileSpecification{Name: aws.String("web")},
				Placement: &types.Placement{AvailabilityZone: aws.String("z1"), Tenancy: types.TenancyDedicated},
				MetadataOptions: &types.InstanceMetadataOptionsRequest{
					HttpEndpoint: types.InstanceMetadataEndpointStateEnabled, HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(2),
				},
				BlockDeviceMappings: []types.BlockDeviceMapping{
					{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{VolumeType: types.VolumeTypeGp3, Iops: aws.Int32(4000), Throughput: aws.Int32(250)}},
					{DeviceName: aws.String("/dev/sdg"), Ebs: &types.EbsBlockDevice{VolumeType: types.VolumeTypeIo2, Iops: aws.Int32(9000)}},
				},
			},
		},
		"a profile's ARN": {
			LaunchOptions{Profile: "arn:aws:iam::1:instance-profile/web"},
			ec2.RunInstancesInput{Placement: zone, IamInstanceProfile: &types.IamInstanceProfileSpecification{Arn: aws.String("arn:aws:iam::1:instance-profile/web")}},
		},
	} {
		got := ec2.RunInstancesInput{Placement: &types.Placement{AvailabilityZone: aws.String("z1")}}
		c.options.apply(&got)
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreUnexported(
			ec2.RunInstancesInput{}, types.Placement{}, types.IamInstanceProfileSpecification{}, types.InstanceMetadataOptionsRequest{}, types.BlockDeviceMapping{}, types.EbsBlockDevice{},
		)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
