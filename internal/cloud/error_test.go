package cloud_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehost/internal/cloud"
	"rehost/internal/hint"
)

// TestARefusalSaysWhatToDo has EC2's own words, and what the hint must name.
func TestARefusalSaysWhatToDo(t *testing.T) {
	for _, tt := range []struct {
		code, message string
		want          []string // in the hint
		permanent     bool
	}{
		{
			"UnauthorizedOperation", "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: " +
				"ec2:CreateTags on resource: arn:aws:ec2:eu-central-1:123456789012:volume/* because no identity-based policy allows the ec2:CreateTags action. " +
				"Encoded authorization failure message: abc", []string{"ec2:CreateTags", "docs/aws/controller.json"}, true,
		},
		{"UnauthorizedOperation", "You are not authorized to perform this operation.", []string{"ec2:CreateVolume", "docs/aws/controller.json"}, true},
		{
			"VcpuLimitExceeded", "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance bucket that the specified instance type belongs to.",
			[]string{"Running On-Demand", "which is 32 now", "Service Quotas", "`instance_type`"},
			true,
		},
		{
			"VolumeLimitExceeded", "The maximum number of volumes '5,000' has been exceeded.",
			[]string{"Storage for volumes", "which is 5,000 now", "Service Quotas"},
			true,
		},
		{"SecurityGroupLimitExceeded", "You have reached the limit.", []string{"VPC security groups per Region\" of service vpc:"}, true},
		{"AttachmentLimitExceeded", "Volume attachment limit exceeded: the limit is 27.", []string{"`volumes_per_server`", "27"}, true},
		{"RequestExpired", "Request has expired.", []string{"renew the credentials"}, false},
		{"PendingVerification", "Your request is pending.", []string{"wait until AWS has verified"}, false},
	} {
		c := openFake(t, fake(t, func(string, url.Values) (int, string) { return http.StatusBadRequest, refusal(tt.code, tt.message) }))
		_, err := c.CreateVolume(t.Context(), cloud.VolumeSpec{Zone: "z", SizeBytes: 1 << 30})
		for _, want := range tt.want {
			if !strings.Contains(hint.Of(err), want) {
				t.Errorf("%s: the hint has no %q: %s", tt.code, want, hint.Of(err))
			}
		}
		if cloud.Permanent(err) != tt.permanent {
			t.Errorf("%s: permanent is %v, want %v", tt.code, cloud.Permanent(err), tt.permanent)
		}
	}
}

// TestARefusedProfileSaysWhatToDo has EC2's words about a profile that is not there, and about one that may not be handed on.
func TestARefusedProfileSaysWhatToDo(t *testing.T) {
	for _, tt := range []struct{ code, message, want string }{
		{"InvalidParameterValue", "Value (web) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", "`instance_profile`"},
		{"InvalidParameterValue", "Value (arn:aws:iam::123456789012:role/web) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", "not its role's"},
		{"InvalidParameterValue", "Value (9) for parameter hopLimit is invalid.", "compare the value"},
		{
			"UnauthorizedOperation", "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: " +
				"iam:PassRole on resource: arn:aws:iam::123456789012:role/web because no identity-based policy allows the iam:PassRole action.", "allow iam:PassRole",
		},
	} {
		c := openFake(t, fake(t, func(action string, _ url.Values) (int, string) {
			if action != "RunInstances" {
				return http.StatusOK, "<Response/>"
			}
			return http.StatusBadRequest, refusal(tt.code, tt.message)
		}))
		_, err := c.RunInstance(t.Context(), cloud.InstanceSpec{Image: "ami-1", Tags: cloud.Tags{cloud.TagServer: "web"}, Options: cloud.LaunchOptions{Profile: "web"}})
		if !strings.Contains(hint.Of(err), tt.want) || !cloud.Permanent(err) {
			t.Errorf("%s: got %v, permanent %v, hint %q, want %q", tt.message, err, cloud.Permanent(err), hint.Of(err), tt.want)
		}
	}
}

// TestCredentialsThatExpiredAreReadAgain renews the file that a person would renew.
func TestCredentialsThatExpiredAreReadAgain(t *testing.T) {
	cfg := fake(t, func(_ string, form url.Values) (int, string) {
		if strings.Contains(form.Get("key"), "Credential=OLD/") {
			return http.StatusBadRequest, refusal("ExpiredToken", "The security token included in the request is expired")
		}
		return http.StatusOK, noSnapshots
	})
	cfg.CredentialsFile = filepath.Join(t.TempDir(), "credentials")
	write := func(key string) {
		t.Helper()
		ok(t, os.WriteFile(cfg.CredentialsFile, []byte("[default]\naws_access_key_id = "+key+"\naws_secret_access_key = s\naws_session_token = t\n"), 0o600))
	}
	write("OLD")
	c := openFake(t, cfg)
	for range 2 {
		if _, err := c.Snapshots(t.Context(), nil); !cloud.Expired(err) || cloud.Permanent(err) || hint.Of(err) == "" {
			t.Fatalf("old credentials: %v, hint %q", err, hint.Of(err))
		}
	}
	ok(t, os.Remove(cfg.CredentialsFile)) // while a person replaces it
	if _, err := c.Snapshots(t.Context(), nil); !cloud.Expired(err) {
		t.Fatalf("no credentials: %v", err)
	}
	write("NEW")
	must[[]cloud.Snapshot](t)(c.Snapshots(t.Context(), nil))
}

// TestARoleIsAssumed has the chain's key used for STS alone, and the role's for EC2.
func TestARoleIsAssumed(t *testing.T) {
	const role = "arn:aws:iam::210987654321:role/rehost"
	asked := url.Values{}
	cfg := fake(t, func(action string, form url.Values) (int, string) {
		if action == "AssumeRole" {
			asked = form
			return http.StatusOK, `<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey>` +
				`<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>`
		}
		if !strings.Contains(form.Get("key"), "Credential=ROLE/") {
			t.Errorf("%s is signed by %s", action, form.Get("key"))
		}
		return http.StatusOK, noSnapshots
	})
	cfg.RoleARN, cfg.ExternalID = role, "of-the-customer"
	c := openFake(t, cfg)
	must[[]cloud.Snapshot](t)(c.Snapshots(t.Context(), nil))
	if asked.Get("RoleArn") != role || asked.Get("ExternalId") != "of-the-customer" || asked.Get("RoleSessionName") != "rehost-controller" {
		t.Errorf("asked STS for %v", asked)
	}
	if !strings.Contains(asked.Get("key"), "Credential=a/") {
		t.Errorf("STS was asked by %s", asked.Get("key"))
	}
}

// TestAVolumeIsMadeAsOrdered compares what EC2 is asked with what was ordered.
func TestAVolumeIsMadeAsOrdered(t *testing.T) {
	var asked url.Values
	c := openFake(t, fake(t, func(_ string, form url.Values) (int, string) {
		asked = form
		return http.StatusOK, `<CreateVolumeResponse><volumeId>vol-1</volumeId></CreateVolumeResponse>`
	}))
	must[cloud.Volume](t)(c.CreateVolume(t.Context(), cloud.VolumeSpec{
		Token: "t", Zone: "z", SizeBytes: 1, Snapshot: "snap-1", Type: "gp3", IOPS: 6000, MiBps: 500, KMSKey: "alias/k", InitMiBps: 200,
	}))
	for name, want := range map[string]string{
		"ClientToken": "t", "Size": "1", "VolumeType": "gp3", "Iops": "6000", "Throughput": "500", "KmsKeyId": "alias/k", "Encrypted": "true",
		"VolumeInitializationRate": "200",
	} {
		if got := asked.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
