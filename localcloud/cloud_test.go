package localcloud_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/localcloud"
	"rehost/localcloud/cloudtest"
)

const region = "local-1"

// TestMain lets the test binary stand in for the programs that a local cloud runs.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "imds-connect" {
		if err := localcloud.IMDSConnect(os.Args[2], os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	if dir := os.Getenv("REHOST_TEST_SERVE"); dir != "" {
		serveUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

func testConfig(dir string, images ...localcloud.Image) localcloud.Config {
	cfg := localcloud.Default()
	cfg.Dir, cfg.Listen, cfg.PoolSizeBytes, cfg.StopGrace = dir, "127.0.0.1:0", 400<<20, 2*time.Second
	cfg.Images, cfg.IMDSConnect = images, []string{os.Args[0], "imds-connect"}
	return cfg
}

// start runs a local cloud and returns a client of it and how to stop it.
func start(t *testing.T, cfg localcloud.Config) (*ec2.Client, func()) {
	t.Helper()
	info, stop := cloudtest.Start(t, cfg, hclog.Debug, nil)
	return client(t, info.Endpoint, cfg.Dir), stop
}

func load(t *testing.T, dir string) aws.Config {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion(region), config.WithRetryMaxAttempts(1),
		config.WithSharedCredentialsFiles([]string{localcloud.CredentialsFile(dir)}), config.WithSharedConfigFiles(nil))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func client(t *testing.T, endpoint, dir string) *ec2.Client {
	t.Helper()
	return ec2.NewFromConfig(load(t, dir), func(o *ec2.Options) { o.BaseEndpoint = &endpoint })
}

// must fails the test on an error.
func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantCode fails the test unless err is the API error code.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok || api.ErrorCode() != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

func tagSpec(kind types.ResourceType, kv ...string) []types.TagSpecification {
	s := types.TagSpecification{ResourceType: kind}
	for i := 0; i+1 < len(kv); i += 2 {
		s.Tags = append(s.Tags, types.Tag{Key: &kv[i], Value: &kv[i+1]})
	}
	return []types.TagSpecification{s}
}

func volumePath(dir, id string) string { return filepath.Join(dir, "pool", "volumes", id+".raw") }

func write(t *testing.T, path string, offset int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, offset); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, offset int64, n int) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, offset); err != nil {
		t.Fatal(err)
	}
	return b
}

func createVolume(t *testing.T, c *ec2.Client, size int32, kv ...string) *ec2.CreateVolumeOutput {
	t.Helper()
	in := &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), Size: &size}
	if len(kv) > 0 {
		in.TagSpecifications = tagSpec(types.ResourceTypeVolume, kv...)
	}
	return must[*ec2.CreateVolumeOutput](t)(c.CreateVolume(t.Context(), in))
}

func TestVolumesAndSnapshots(t *testing.T) {
	dir := t.TempDir()
	c, stop := start(t, testConfig(dir))
	ctx := t.Context()
	v := createVolume(t, c, 1, "rehost:server", "web")
	if v.State != types.VolumeStateAvailable || *v.Iops != 3000 || len(v.Tags) != 1 || time.Since(*v.CreateTime) > time.Minute {
		t.Errorf("new volume: %+v", v)
	}
	write(t, volumePath(dir, *v.VolumeId), 1<<20, []byte("first"))
	snap := must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{
		VolumeId: v.VolumeId, Description: aws.String("one"), TagSpecifications: tagSpec(types.ResourceTypeSnapshot, "rehost:point", "7"),
	}))
	if snap.State != types.SnapshotStateCompleted || *snap.VolumeSize != 1 {
		t.Errorf("new snapshot: %+v", snap)
	}
	write(t, volumePath(dir, *v.VolumeId), 1<<20, []byte("later"))
	clone := must[*ec2.CreateVolumeOutput](t)(c.CreateVolume(ctx, &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(region + "a"), SnapshotId: snap.SnapshotId, Size: aws.Int32(2), ClientToken: aws.String("tok"), VolumeInitializationRate: aws.Int32(200),
	}))
	if aws.ToInt32(clone.VolumeInitializationRate) != 200 {
		t.Errorf("the clone's initialization rate is %d, want 200", aws.ToInt32(clone.VolumeInitializationRate))
	}
	if got := read(t, volumePath(dir, *clone.VolumeId), 1<<20, 5); string(got) != "first" {
		t.Errorf("the clone holds %q, want the snapshot's content", got)
	}
	if info, err := os.Stat(volumePath(dir, *clone.VolumeId)); err != nil || info.Size() != 2<<30 {
		t.Errorf("the clone's size: %v, %v", info, err)
	}
	again := must[*ec2.CreateVolumeOutput](t)(c.CreateVolume(ctx, &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(region + "a"), SnapshotId: snap.SnapshotId, Size: aws.Int32(2), ClientToken: aws.String("tok"), VolumeInitializationRate: aws.Int32(200),
	}))
	if *again.VolumeId != *clone.VolumeId {
		t.Error("the same client token made a second volume")
	}
	_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), SnapshotId: snap.SnapshotId, VolumeInitializationRate: aws.Int32(301)})
	wantCode(t, err, "InvalidParameterValue")
	_, err = c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), Size: aws.Int32(3), ClientToken: aws.String("tok")})
	wantCode(t, err, "IdempotentParameterMismatch")

	stop()
	c, _ = start(t, testConfig(dir))
	found := must[*ec2.DescribeSnapshotsOutput](t)(c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: []types.Filter{{Name: aws.String("tag:rehost:point"), Values: []string{"?"}}},
	}))
	if len(found.Snapshots) != 1 || *found.Snapshots[0].SnapshotId != *snap.SnapshotId || *found.Snapshots[0].Description != "one" {
		t.Errorf("after a restart: %+v", found.Snapshots)
	}
	if _, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: snap.SnapshotId}); err != nil {
		t.Error(err)
	}
	if got := read(t, volumePath(dir, *clone.VolumeId), 1<<20, 5); string(got) != "first" {
		t.Errorf("deleting the snapshot changed its clone: %q", got)
	}
	if _, err := c.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: clone.VolumeId}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(volumePath(dir, *clone.VolumeId)); !os.IsNotExist(err) {
		t.Errorf("the file of a deleted volume: %v", err)
	}
}

func TestPagesFiltersAndTags(t *testing.T) {
	c, _ := start(t, testConfig(t.TempDir()))
	ctx := t.Context()
	var ids []string
	for i := range 12 {
		ids = append(ids, *createVolume(t, c, 1, "n", fmt.Sprint(i)).VolumeId)
	}
	pages := ec2.NewDescribeVolumesPaginator(c, &ec2.DescribeVolumesInput{MaxResults: aws.Int32(5)})
	seen, n := map[string]bool{}, 0
	for pages.HasMorePages() {
		n++
		for _, v := range must[*ec2.DescribeVolumesOutput](t)(pages.NextPage(ctx)).Volumes {
			seen[*v.VolumeId] = true
		}
	}
	if len(seen) != 12 || n != 3 {
		t.Errorf("%d volumes on %d pages, want 12 on 3", len(seen), n)
	}
	count := func(filters ...types.Filter) int {
		t.Helper()
		return len(must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: filters})).Volumes)
	}
	f := func(name string, values ...string) types.Filter { return types.Filter{Name: &name, Values: values} }
	for want, filters := range map[int][]types.Filter{
		3:  {f("tag:n", "1", "2", "5")},
		2:  {f("tag:n", "1?")},
		12: {f("tag-key", "n"), f("status", "available", "in-use")},
		0:  {f("tag:n", "*"), f("status", "in-use")},
	} {
		if got := count(filters...); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	_, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: []types.Filter{f("colour", "red")}})
	wantCode(t, err, "InvalidParameterValue")
	_, err = c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{NextToken: aws.String("x!")})
	wantCode(t, err, "InvalidNextToken")
	_, err = c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{MaxResults: aws.Int32(2)})
	wantCode(t, err, "InvalidParameterValue")

	must[*ec2.CreateTagsOutput](t)(c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids[:2], Tags: []types.Tag{{Key: aws.String("x"), Value: aws.String("y")}}}))
	_, err = c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{ids[3], "vol-none"}, Tags: []types.Tag{{Key: aws.String("x"), Value: aws.String("y")}}})
	wantCode(t, err, "InvalidID")
	must[*ec2.DeleteTagsOutput](t)(c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: ids[:1], Tags: []types.Tag{{Key: aws.String("x")}}}))
	tags := must[*ec2.DescribeTagsOutput](t)(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: []types.Filter{f("key", "x")}})).Tags
	if len(tags) != 1 || *tags[0].ResourceId != ids[1] || tags[0].ResourceType != types.ResourceTypeVolume {
		t.Errorf("tags: %+v", tags)
	}
}

func TestErrorsHaveEC2Codes(t *testing.T) {
	c, _ := start(t, testConfig(t.TempDir()))
	ctx := t.Context()
	zone, none := aws.String(region+"a"), aws.String("none")
	gone := func(kind string) *string { return aws.String(kind + "-0123456789abcdef0") }
	for code, call := range map[string]func() error{
		"InvalidVolume.NotFound": func() error { _, err := c.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: gone("vol")}); return err },
		"InvalidSnapshot.NotFound": func() error {
			_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: zone, SnapshotId: gone("snap")})
			return err
		},
		"InvalidZone.NotFound": func() error {
			_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: none, Size: aws.Int32(1)})
			return err
		},
		"MissingParameter": func() error {
			_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: zone})
			return err
		},
		"InvalidParameterValue": func() error {
			_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(70000)})
			return err
		},
		"InvalidParameterCombination": func() error {
			_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(1), VolumeInitializationRate: aws.Int32(200)})
			return err
		},
		"DryRunOperation": func() error {
			_, err := c.CreateVolume(ctx, &ec2.CreateVolumeInput{AvailabilityZone: zone, Size: aws.Int32(1), DryRun: aws.Bool(true)})
			return err
		},
		"InvalidAMIID.NotFound": func() error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: gone("ami"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			return err
		},
		"InvalidInstanceID.NotFound": func() error {
			_, err := c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{*gone("i")}})
			return err
		},
		"InvalidAction": func() error { _, err := c.DescribeHosts(ctx, &ec2.DescribeHostsInput{}); return err },
		"CannotDelete": func() error {
			_, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupName: aws.String("default")})
			return err
		},
	} {
		wantCode(t, call(), code)
	}
	if vs := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, nil)).Volumes; len(vs) != 0 {
		t.Errorf("a refused call left %d volumes", len(vs))
	}
}

func TestSignatures(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir))
	endpoint := c.Options().BaseEndpoint
	good := load(t, dir)
	id := must[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(good, func(o *sts.Options) { o.BaseEndpoint = endpoint }).GetCallerIdentity(t.Context(), nil))
	if *id.Account != "000000000000" {
		t.Errorf("account %s", *id.Account)
	}
	key, err := good.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]aws.CredentialsProvider{
		"unknown key":  credentials.NewStaticCredentialsProvider("AKIAUNKNOWN", key.SecretAccessKey, ""),
		"wrong secret": credentials.NewStaticCredentialsProvider(key.AccessKeyID, "wrong", ""),
	} {
		bad := good.Copy()
		bad.Credentials = p
		_, err := ec2.NewFromConfig(bad, func(o *ec2.Options) { o.BaseEndpoint = endpoint }).DescribeVolumes(t.Context(), nil)
		t.Log(name)
		wantCode(t, err, "AuthFailure")
	}
	res, err := http.PostForm(*endpoint, url.Values{"Action": {"DescribeVolumes"}, "Version": {"2016-11-15"}}) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("an unsigned request got %s", res.Status)
	}
	info, err := os.Stat(localcloud.CredentialsFile(dir))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("credentials file: %v, %v", info.Mode(), err)
	}
}

func TestNetworkAndTypes(t *testing.T) {
	c, _ := start(t, testConfig(t.TempDir()))
	ctx := t.Context()
	g := must[*ec2.CreateSecurityGroupOutput](t)(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String("web"), Description: aws.String("d"), TagSpecifications: tagSpec(types.ResourceTypeSecurityGroup, "a", "b"),
	}))
	in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: []types.IpPermission{{
		IpProtocol: aws.String("tcp"), FromPort: aws.Int32(80), ToPort: aws.Int32(81), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}},
	}}}
	must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(c.AuthorizeSecurityGroupIngress(ctx, in))
	_, err := c.AuthorizeSecurityGroupIngress(ctx, in)
	wantCode(t, err, "InvalidPermission.Duplicate")
	found := must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupNames: []string{"web"}})).SecurityGroups
	if len(found) != 1 || *found[0].IpPermissions[0].ToPort != 81 || *found[0].IpPermissions[0].IpRanges[0].CidrIp != "0.0.0.0/0" {
		t.Errorf("groups: %+v", found)
	}
	out := &ec2.RevokeSecurityGroupEgressInput{GroupId: g.GroupId, IpPermissions: found[0].IpPermissionsEgress}
	must[*ec2.RevokeSecurityGroupEgressOutput](t)(c.RevokeSecurityGroupEgress(ctx, out))
	_, err = c.RevokeSecurityGroupEgress(ctx, out)
	wantCode(t, err, "InvalidPermission.NotFound")
	subnets := must[*ec2.DescribeSubnetsOutput](t)(c.DescribeSubnets(ctx, nil)).Subnets
	vpcs := must[*ec2.DescribeVpcsOutput](t)(c.DescribeVpcs(ctx, nil)).Vpcs
	zones := must[*ec2.DescribeAvailabilityZonesOutput](t)(c.DescribeAvailabilityZones(ctx, nil)).AvailabilityZones
	regions := must[*ec2.DescribeRegionsOutput](t)(c.DescribeRegions(ctx, nil)).Regions
	if len(subnets) != 2 || len(vpcs) != 1 || *subnets[0].VpcId != *vpcs[0].VpcId || len(zones) != 2 || *regions[0].RegionName != region {
		t.Errorf("network: %+v %+v %+v %+v", subnets, vpcs, zones, regions)
	}
	kinds := must[*ec2.DescribeInstanceTypesOutput](t)(c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t3.small"}})).InstanceTypes
	if len(kinds) != 1 || *kinds[0].MemoryInfo.SizeInMiB != 2048 || *kinds[0].VCpuInfo.DefaultVCpus != 2 {
		t.Errorf("types: %+v", kinds)
	}
	must[*ec2.DeleteSecurityGroupOutput](t)(c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: g.GroupId}))
}

func TestAFullPoolRefusesNewVolumes(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir))
	v := createVolume(t, c, 1)
	f, err := os.OpenFile(volumePath(dir, *v.VolumeId), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	var room unix.Statfs_t
	err = unix.Fstatfs(int(f.Fd()), &room)
	err = errors.Join(err, unix.Fallocate(int(f.Fd()), 0, 0, int64(room.Bavail)*room.Bsize-32<<20), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: v.VolumeId})
	wantCode(t, err, "InsufficientVolumeCapacity")
	_, err = c.CreateVolume(t.Context(), &ec2.CreateVolumeInput{AvailabilityZone: aws.String(region + "a"), Size: aws.Int32(1)})
	wantCode(t, err, "InsufficientVolumeCapacity")
	must[*ec2.DeleteVolumeOutput](t)(c.DeleteVolume(t.Context(), &ec2.DeleteVolumeInput{VolumeId: v.VolumeId}))
	createVolume(t, c, 1)
}

func TestBadSurroundingsHintAndLeaveNothing(t *testing.T) {
	cfg := testConfig(t.TempDir())
	c, _ := start(t, cfg)
	other := testConfig(t.TempDir())
	other.Listen = strings.TrimPrefix(*c.Options().BaseEndpoint, "http://")
	deps := localcloud.Deps{Log: hclog.NewNullLogger()}
	if err := localcloud.Run(t.Context(), other, deps); err == nil || !strings.Contains(err.Error(), "address already in use") || hint.Of(err) == "" {
		t.Errorf("a port in use: %v, hint %q", err, hint.Of(err))
	}
	if out, _ := command.Run(t.Context(), "losetup", "--associated", filepath.Join(other.Dir, "pool.img")); len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("a loop device was left: %s", out)
	}
	if err := localcloud.Run(t.Context(), cfg, deps); err == nil || hint.Of(err) == "" {
		t.Errorf("a data folder in use: %v, hint %q", err, hint.Of(err))
	}
	missing := testConfig(t.TempDir(), localcloud.Image{Name: "x", Path: "/does/not/exist"})
	if err := localcloud.Run(t.Context(), missing, deps); err == nil || hint.Of(err) == "" {
		t.Errorf("a missing image: %v, hint %q", err, hint.Of(err))
	}
	t.Setenv("PATH", "/nonexistent")
	if err := localcloud.Run(t.Context(), testConfig(t.TempDir()), deps); err == nil || !strings.Contains(hint.Of(err), "qemu") {
		t.Errorf("no QEMU: %v, hint %q", err, hint.Of(err))
	}
}

// serveUntilKilled is a local cloud in a process of its own.
func serveUntilKilled(dir string) {
	cfg := testConfig(dir, processImage, localcloud.Image{Name: "halts", Path: os.Getenv("REHOST_TEST_DISK")})
	cfg.Listen = os.Getenv("REHOST_TEST_LISTEN")
	_ = localcloud.Run(context.Background(), cfg, localcloud.Deps{Log: hclog.NewNullLogger(), Ready: func(localcloud.Info) {
		_ = os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600)
	}})
}
