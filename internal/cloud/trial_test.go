package cloud_test

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/localcloud"
)

const converter = "converter" // an image that is registered as docs/aws.md says

// things has one of everything that the driver works with in an account.
func things(t *testing.T, c *cloud.Client) {
	t.Helper()
	v := must[cloud.Volume](t)(c.CreateVolume(t.Context(), cloud.VolumeSpec{Zone: "local-1a", SizeBytes: 1 << 30, Tags: cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume}}))
	s := must[cloud.Snapshot](t)(c.SnapshotVolume(t.Context(), v.ID, cloud.Tags{cloud.TagRole: "appliance"}))
	must[cloud.Image](t)(c.RegisterImage(t.Context(), cloud.ImageSpec{Name: converter, Root: s.ID, Tags: cloud.Tags{cloud.TagRole: "appliance"}}, nil))
	must[string](t)(c.EnsureSecurityGroup(t.Context(), cloud.GroupSpec{Name: "g", Description: "d", Tags: cloud.Tags{cloud.TagRole: cloud.RoleTarget}}))
	image := must[cloud.Image](t)(c.FindImage(t.Context(), "helper"))
	must[cloud.Instance](t)(c.RunInstance(t.Context(), cloud.InstanceSpec{Image: image.ID, Type: "t3.micro", Tags: cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer}}))
}

// tryAll makes every trial that there is.
func tryAll(t *testing.T, c *cloud.Client) map[string]error {
	t.Helper()
	role := cloud.Tags{cloud.TagRole: cloud.RoleClone}
	out := map[string]error{
		"ec2:RunInstances":        c.TryInstance(t.Context(), cloud.InstanceSpec{Image: converter, Type: "t3.micro", Tags: role}),
		"ec2:CreateVolume":        c.TryVolume(t.Context(), cloud.VolumeSpec{SizeBytes: 1 << 30, Tags: role}, "", converter),
		"ec2:RegisterImage":       c.TryImage(t.Context(), cloud.ImageSpec{Name: "x", Tags: role}, converter),
		"ec2:CreateSecurityGroup": c.TryGroup(t.Context(), cloud.GroupSpec{Name: "x", Description: "d", Tags: role}),
	}
	for _, trial := range c.TryOwn(t.Context(), converter) {
		out[trial.Action] = trial.Err
	}
	return out
}

// changes are the trials of calls that change something.
func changes(all map[string]error) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(all)), func(a string) bool { return strings.Contains(a, ":Describe") })
}

// TestTrialsTellWhatIsAllowedAndDoNothing tries every call of the driver in an account that has everything: first as somebody who may do all, then
// as one who may look only.
func TestTrialsTellWhatIsAllowedAndDoNothing(t *testing.T) {
	cfg := localCloud(t)
	c, stop := openUntil(t, cfg, nil)
	things(t, c)
	before := inventory(t, c)
	all := tryAll(t, c)
	for action, err := range all {
		if err != nil {
			t.Errorf("%s: %v", action, err)
		}
	}
	calls := driverSource(t).calls
	maps.DeleteFunc(calls, func(a string, _ bool) bool { return !strings.HasPrefix(a, "ec2:") && !strings.HasPrefix(a, "ebs:") })
	if diff := cmp.Diff(slices.Sorted(maps.Keys(calls)), slices.Sorted(maps.Keys(all))); diff != "" {
		t.Errorf("the driver's calls and those that are tried (-driver +tried):\n%s", diff)
	}
	if diff := cmp.Diff(before, inventory(t, c)); diff != "" {
		t.Errorf("the trials changed something:\n%s", diff)
	}
	stop()
	cfg.Denied = changes(all)
	c = openWith(t, cfg, nil)
	for action, err := range tryAll(t, c) {
		want := action
		if !slices.Contains(cfg.Denied, action) {
			want = ""
		}
		if action == "ebs:GetSnapshotBlock" { // its token comes by the other call
			want = "ebs:ListSnapshotBlocks"
		}
		if got := cloud.Missing(err); got != want {
			t.Errorf("%s denied: %q is missing, want %q (%v)", action, got, want, err)
		}
	}
}

// inventory is everything that a trial could have made, changed or ended.
func inventory(t *testing.T, c *cloud.Client) []any {
	t.Helper()
	ctx := t.Context()
	return []any{
		must[[]cloud.Volume](t)(c.Volumes(ctx, nil)), must[[]cloud.Snapshot](t)(c.Snapshots(ctx, nil)), must[[]cloud.Image](t)(c.Images(ctx, nil)),
		len(must[[]cloud.Instance](t)(c.Instances(ctx, nil))), must[[]cloud.Instance](t)(c.Instances(ctx, nil))[0].Alive(),
	}
}

// TestTrialsInAnEmptyAccount: what there is nothing to try on is not known; what is made is, and what is done on the way.
func TestTrialsInAnEmptyAccount(t *testing.T) {
	cfg := localCloud(t)
	cfg.Denied, cfg.Profiles = []string{"ec2:CreateTags", "iam:PassRole"}, []string{"web"}
	c := openWith(t, cfg, nil)
	for _, trial := range c.TryOwn(t.Context(), "helper") {
		if known := strings.Contains(trial.Action, ":Describe") || trial.Action == "ec2:DeregisterImage"; known != (trial.Err == nil) || !known && !errors.Is(trial.Err, cloud.ErrUntried) {
			t.Errorf("%s: %v", trial.Action, trial.Err)
		}
	}
	spec := cloud.InstanceSpec{Image: "helper", Type: "t3.micro", Options: cloud.LaunchOptions{Profile: "web"}}
	if err := c.TryInstance(t.Context(), spec); cloud.Missing(err) != "iam:PassRole" {
		t.Errorf("a profile that may not be given: %v", err)
	}
	spec.Options.Profile = "db"
	if err := c.TryInstance(t.Context(), spec); !cloud.NoProfile(err) {
		t.Errorf("a profile that is not there: %v", err)
	}
	spec.Image = "nothing"
	if err := c.TryInstance(t.Context(), spec); !cloud.NoImage(err) {
		t.Errorf("an image that is not there: %v", err)
	}
	err := c.TryVolume(t.Context(), cloud.VolumeSpec{SizeBytes: 1 << 30, Tags: cloud.Tags{cloud.TagRole: cloud.RoleClone}}, "", "")
	if cloud.Missing(err) != "ec2:CreateTags" {
		t.Errorf("a volume whose tag is refused: %v", err)
	}
}

// TestARefusalThatTellsNothing has EC2's words when the launch was tried without a group of ours, since there is none yet: the network's own one, which
// EC2 takes instead, is none that the policy of docs/aws allows, and its refusal says nothing about the real launch.
func TestARefusalThatTellsNothing(t *testing.T) {
	const words = "You are not authorized to perform this operation. User: arn:aws:sts::123456789012:assumed-role/r/s is not authorized to perform: ec2:RunInstances" +
		" on resource: arn:aws:ec2:eu-central-1:123456789012:"
	for resource, untried := range map[string]bool{"security-group/sg-0a": true, "image/ami-1": false} {
		c := openFake(t, fake(t, func(action string, form url.Values) (int, string) {
			switch action {
			case "DescribeImages":
				if form.Get("DryRun") == "true" {
					return http.StatusPreconditionFailed, refusal("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
				}
				return http.StatusOK, "<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId></item></imagesSet></DescribeImagesResponse>"
			case "DescribeVpcs":
				return http.StatusOK, "<DescribeVpcsResponse><vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet></DescribeVpcsResponse>"
			case "DescribeSecurityGroups":
				return http.StatusOK, "<DescribeSecurityGroupsResponse/>"
			}
			return http.StatusForbidden, refusal("UnauthorizedOperation", words+resource+" because no identity-based policy allows the ec2:RunInstances action.")
		}))
		err := c.TryInstance(t.Context(), cloud.InstanceSpec{Image: "helper"})
		if errors.Is(err, cloud.ErrUntried) != untried || (cloud.Missing(err) == "") != untried {
			t.Errorf("refused on %s: %v", resource, err)
		}
	}
}

// TestACloudThatDoesNotKnowDryRunIsNotTried, since it would do what it is only to be asked about, whether or not one may look there.
func TestACloudThatDoesNotKnowDryRunIsNotTried(t *testing.T) {
	const tagged = "<tagSet><item><key>" + cloud.TagRole + "</key><value>target</value></item></tagSet>"
	answers := map[string]string{
		"DescribeImages": "<DescribeImagesResponse><imagesSet><item><imageId>ami-1</imageId><blockDeviceMapping><item><ebs><snapshotId>snap-1</snapshotId></ebs></item></blockDeviceMapping>" +
			tagged + "</item></imagesSet></DescribeImagesResponse>",
		"DescribeSnapshots":      "<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>snap-1</snapshotId>" + tagged + "</item></snapshotSet></DescribeSnapshotsResponse>",
		"DescribeSecurityGroups": "<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId>sg-1</groupId></item></securityGroupInfo></DescribeSecurityGroupsResponse>",
		"DescribeVolumes":        "<DescribeVolumesResponse><volumeSet><item><volumeId>vol-1</volumeId></item></volumeSet></DescribeVolumesResponse>",
		"DescribeInstances": "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></item></reservationSet>" +
			"</DescribeInstancesResponse>",
		"DescribeVpcs":    "<DescribeVpcsResponse><vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet></DescribeVpcsResponse>",
		"DescribeSubnets": "<DescribeSubnetsResponse><subnetSet><item><subnetId>subnet-1</subnetId><availabilityZone>z</availabilityZone></item></subnetSet></DescribeSubnetsResponse>",
	}
	for name, refused := range map[string]func(action string) bool{
		"may look": func(string) bool { return false }, "may not look at images": func(a string) bool { return a == "DescribeImages" }, "may not look": func(string) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			c := openFake(t, fake(t, func(action string, form url.Values) (int, string) {
				switch {
				case !strings.HasPrefix(action, "Describe"):
					t.Errorf("%q was done", action)
				case form.Get("DryRun") == "true" && refused(action):
					return http.StatusForbidden, refusal("UnauthorizedOperation", "You are not authorized to perform this operation.")
				}
				if answer := answers[action]; answer != "" {
					return http.StatusOK, answer
				}
				return http.StatusOK, "<Response/>"
			}))
			for action, err := range tryAll(t, c) {
				look := strings.Contains(action, ":Describe") && refused(strings.TrimPrefix(action, "ec2:"))
				if look && cloud.Missing(err) != action || !look && !errors.Is(err, cloud.ErrUntried) {
					t.Errorf("%s: %v", action, err)
				}
			}
		})
	}
}

// TestKeysAndQuotas asks KMS and Service Quotas, as the local cloud plays them.
func TestKeysAndQuotas(t *testing.T) {
	cfg := localCloud(t)
	cfg.KMSKeys, cfg.Quotas = []string{"alias/mine", "alias/old=Disabled"}, localcloud.Quotas{VCPUs: 8, StorageGiB: 512}
	c := openWith(t, cfg, nil)
	for name, why := range map[string]string{
		"alias/mine": "", "arn:aws:kms:local-1:000000000000:alias/mine": "", "alias/old": "in the state Disabled", "alias/none": "does not exist in local-1",
		"arn:aws:kms:eu-west-1:000000000000:alias/mine": "is in eu-west-1, the volumes are in local-1",
	} {
		err := c.Key(t.Context(), name)
		if unfit, ok := errors.AsType[*cloud.UnfitKey](err); (err != nil) != ok || ok != (why != "") || ok && !strings.Contains(unfit.Error(), why) {
			t.Errorf("key %s: got %v, want %q", name, err, why)
		}
	}
	things(t, c)
	used := must[cloud.Used](t)(c.Used(t.Context()))
	for _, tt := range []struct {
		limit cloud.Limit
		want  float64
		used  int64
	}{
		{cloud.CoreLimit("m5.large"), 8, int64(used.Cores[cloud.CoreLimit("t3.micro").Code]) - 2},
		{cloud.StorageLimit("gp3"), 0.5, used.Storage[cloud.StorageLimit("gp3").Code] - 1<<30},
	} {
		if got := must[float64](t)(c.LimitOf(t.Context(), tt.limit)); got != tt.want || tt.used != 0 {
			t.Errorf("%s: got %v, want %v; the use is off by %d", tt.limit.Name, got, tt.want, tt.used)
		}
	}
	if _, err := c.LimitOf(t.Context(), cloud.CoreLimit("p3.large")); err == nil {
		t.Error("a quota that the cloud does not know has a value")
	}
	for kind, code := range map[string]string{"im4gn.large": "L-1216C47A", "inf1.large": "L-1945791B", "u-6tb1.metal": "L-43DA4232", "g4dn.large": "L-DB2E81BA", "mac1.metal": "", "odd": ""} {
		if got := cloud.CoreLimit(kind).Code; got != code {
			t.Errorf("%s counts by %q, want %q", kind, got, code)
		}
	}
}
