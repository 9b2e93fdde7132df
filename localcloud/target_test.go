package localcloud_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/hashicorp/go-hclog"

	"rehost/localcloud"
	"rehost/localcloud/cloudtest"
)

// TestKeysQuotasAndProfilesAreAnswered asks KMS and Service Quotas with AWS's own SDK, and launches with profiles, as EC2 refuses them: also in a dry run.
func TestKeysQuotasAndProfilesAreAnswered(t *testing.T) {
	cfg := testConfig(t.TempDir(), processImage)
	cfg.KMSKeys, cfg.Quotas, cfg.Profiles, cfg.Denied = []string{"alias/off=Disabled"}, localcloud.Quotas{Snapshots: 7}, []string{"web"}, []string{"kms:Decrypt", "servicequotas:GetAWS*"}
	info, _ := cloudtest.Start(t, cfg, hclog.Debug, nil)
	sdk := load(t, cfg.Dir)
	sdk.BaseEndpoint = aws.String(info.Endpoint)
	keys, quotas, c := kms.NewFromConfig(sdk), servicequotas.NewFromConfig(sdk), ec2.NewFromConfig(sdk)
	if got := must[*kms.DescribeKeyOutput](t)(keys.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/off")})).KeyMetadata; got.KeyState != "Disabled" || got.Enabled {
		t.Errorf("a disabled key: %+v", got)
	}
	_, err := keys.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/none")})
	wantCode(t, err, "NotFoundException")
	_, err = keys.ListKeys(t.Context(), &kms.ListKeysInput{})
	wantCode(t, err, "UnknownOperationException")
	snapshots := &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("ebs"), QuotaCode: aws.String("L-309BACF6")}
	if got := *must[*servicequotas.GetServiceQuotaOutput](t)(quotas.GetServiceQuota(t.Context(), snapshots)).Quota.Value; got != 7 {
		t.Errorf("snapshots: got %v", got)
	}
	_, err = quotas.GetServiceQuota(t.Context(), &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("ebs"), QuotaCode: aws.String("L-00000000")})
	wantCode(t, err, "NoSuchResourceException")
	_, err = quotas.GetAWSDefaultServiceQuota(t.Context(), &servicequotas.GetAWSDefaultServiceQuotaInput{ServiceCode: aws.String("ebs"), QuotaCode: aws.String("L-309BACF6")})
	wantCode(t, err, "AccessDeniedException")
	for name, code := range map[string]string{"web": "DryRunOperation", "db": "InvalidParameterValue"} {
		_, err = c.RunInstances(t.Context(), &ec2.RunInstancesInput{
			ImageId: imageID(t, c, "worker"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), DryRun: aws.Bool(true),
			IamInstanceProfile: &types.IamInstanceProfileSpecification{Name: aws.String(name)},
		})
		wantCode(t, err, code)
	}
}
