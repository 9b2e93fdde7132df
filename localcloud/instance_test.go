package localcloud_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"rehost/localcloud"
)

// processImage says where it is, lists its volumes, and goes on until it is asked to end.
var processImage = localcloud.Image{Name: "worker", Program: []string{
	"/bin/sh", "-c", `echo "up $$ $AWS_EC2_METADATA_SERVICE_ENDPOINT $REHOST_BY_ID"; trap 'echo ended; exit 0' TERM; while :; do sleep 0.05; done`,
}}

// eventually waits for a condition.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

func console(t *testing.T, c *ec2.Client, id string) string {
	t.Helper()
	out := must[*ec2.GetConsoleOutputOutput](t)(c.GetConsoleOutput(t.Context(), &ec2.GetConsoleOutputInput{InstanceId: &id}))
	raw, err := base64.StdEncoding.DecodeString(*out.Output)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func describe(t *testing.T, c *ec2.Client, id string) types.Instance {
	t.Helper()
	out := must[*ec2.DescribeInstancesOutput](t)(c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}))
	return out.Reservations[0].Instances[0]
}

func imageID(t *testing.T, c *ec2.Client, name string) *string {
	t.Helper()
	out := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{name}}},
	}))
	if len(out.Images) != 1 {
		t.Fatalf("%d images named %s", len(out.Images), name)
	}
	return out.Images[0].ImageId
}

func run(t *testing.T, c *ec2.Client, in *ec2.RunInstancesInput) types.Instance {
	t.Helper()
	in.MinCount, in.MaxCount = aws.Int32(1), aws.Int32(1)
	return must[*ec2.RunInstancesOutput](t)(c.RunInstances(t.Context(), in)).Instances[0]
}

func inState(t *testing.T, c *ec2.Client, id string, want types.InstanceStateName) func() bool {
	t.Helper()
	return func() bool { return describe(t, c, id).State.Name == want }
}

// starts returns the lines of a process instance's console that begin with up.
func starts(t *testing.T, c *ec2.Client, id string) [][]string {
	t.Helper()
	var out [][]string
	for line := range strings.Lines(console(t, c, id)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "up" {
			out = append(out, f)
		}
	}
	return out
}

func TestProcessInstance(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir, processImage))
	ctx := t.Context()
	vol := createVolume(t, c, 1)
	in := run(t, c, &ec2.RunInstancesInput{
		ImageId: imageID(t, c, "worker"), UserData: aws.String(base64.StdEncoding.EncodeToString([]byte("join here"))), ClientToken: aws.String("once"),
		TagSpecifications: tagSpec(types.ResourceTypeInstance, "Name", "w1"), MetadataOptions: &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: "enabled"},
	})
	id := *in.InstanceId
	again := run(t, c, &ec2.RunInstancesInput{
		ImageId: imageID(t, c, "worker"), UserData: aws.String(base64.StdEncoding.EncodeToString([]byte("join here"))), ClientToken: aws.String("once"),
		TagSpecifications: tagSpec(types.ResourceTypeInstance, "Name", "w1"), MetadataOptions: &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: "enabled"},
	})
	if *again.InstanceId != id {
		t.Error("the same client token made a second instance")
	}
	if err := ec2.NewInstanceRunningWaiter(c).Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, 10*time.Second,
		func(o *ec2.InstanceRunningWaiterOptions) {
			o.MinDelay, o.MaxDelay = 20*time.Millisecond, 50*time.Millisecond
		}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the program's first words", func() bool { return len(starts(t, c, id)) == 1 })
	up := starts(t, c, id)[0]

	must[*ec2.AttachVolumeOutput](t)(c.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: vol.VolumeId, InstanceId: &id, Device: aws.String("/dev/sdf")}))
	link := filepath.Join(up[3], "nvme-Amazon_Elastic_Block_Store_"+strings.Replace(*vol.VolumeId, "-", "", 1))
	write(t, link, 0, []byte("through the link"))
	if got := read(t, volumePath(dir, *vol.VolumeId), 0, 16); string(got) != "through the link" {
		t.Errorf("the volume holds %q", got)
	}
	_, err := c.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: vol.VolumeId})
	wantCode(t, err, "VolumeInUse")
	_, err = c.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: vol.VolumeId, InstanceId: &id, Device: aws.String("/dev/sdg")})
	wantCode(t, err, "VolumeInUse")

	second := createVolume(t, c, 1)
	must[*ec2.AttachVolumeOutput](t)(c.AttachVolume(ctx, &ec2.AttachVolumeInput{VolumeId: second.VolumeId, InstanceId: &id, Device: aws.String("/dev/sdg")}))
	snaps := must[*ec2.CreateSnapshotsOutput](t)(c.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{InstanceSpecification: &types.InstanceSpecification{InstanceId: &id}}))
	if len(snaps.Snapshots) != 2 || *snaps.Snapshots[0].VolumeId != *vol.VolumeId || snaps.Snapshots[0].State != types.SnapshotStateCompleted {
		t.Errorf("snapshots: %+v", snaps.Snapshots)
	}
	some := must[*ec2.CreateSnapshotsOutput](t)(c.CreateSnapshots(ctx, &ec2.CreateSnapshotsInput{
		InstanceSpecification: &types.InstanceSpecification{InstanceId: &id, ExcludeDataVolumeIds: []string{*second.VolumeId}},
	}))
	if len(some.Snapshots) != 1 {
		t.Errorf("%d snapshots, want 1", len(some.Snapshots))
	}
	must[*ec2.DetachVolumeOutput](t)(c.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: vol.VolumeId}))
	if _, err := os.Lstat(link); !os.IsNotExist(err) {
		t.Errorf("the link of a detached volume: %v", err)
	}
	checkMetadata(t, up[2], id)

	pid := must[int](t)(strconv.Atoi(up[1]))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "a restart of the program", func() bool { return len(starts(t, c, id)) == 2 })
	if got := describe(t, c, id).State.Name; got != types.InstanceStateNameRunning {
		t.Errorf("after the program died the instance is %s", got)
	}
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))
	eventually(t, 5*time.Second, "termination", inState(t, c, id, types.InstanceStateNameTerminated))
	if !strings.HasSuffix(console(t, c, id), "ended\n") {
		t.Error("the program was not asked to end")
	}
	eventually(t, 5*time.Second, "a folder with nothing but the console", func() bool {
		left, _ := filepath.Glob(filepath.Join(dir, "instances", id, "*"))
		return len(left) == 1 && filepath.Base(left[0]) == "console.log"
	})
	if v := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*second.VolumeId}})).Volumes[0]; v.State != types.VolumeStateAvailable {
		t.Errorf("the volume of a terminated instance is %s", v.State)
	}
}

// Without retries: a long answer must arrive whole at the first attempt.
func TestLongAnswersArriveWhole(t *testing.T) {
	dir := t.TempDir()
	c, _ := start(t, testConfig(dir, processImage))
	id := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "worker")}).InstanceId
	long := strings.Repeat("0123456789abcde\n", 6000) + "end\n"
	if err := os.WriteFile(filepath.Join(dir, "instances", id, "console.log"), []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 150 {
		if got := console(t, c, id); len(got) < 64<<10 {
			t.Fatalf("the console has %d bytes, want its last 64 KiB", len(got))
		}
	}
}

// checkMetadata asks an instance's metadata service as AWS's own client does.
func checkMetadata(t *testing.T, endpoint, id string) {
	t.Helper()
	res, err := http.Get(endpoint + "/latest/user-data") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a token: %s", res.Status)
	}
	m := imds.New(imds.Options{Endpoint: endpoint})
	doc := must[*imds.GetInstanceIdentityDocumentOutput](t)(m.GetInstanceIdentityDocument(t.Context(), nil))
	if doc.InstanceID != id || doc.Region != region {
		t.Errorf("identity document: %+v", doc)
	}
	data := must[*imds.GetUserDataOutput](t)(m.GetUserData(t.Context(), nil))
	text := make([]byte, 64)
	n, _ := data.Content.Read(text)
	if string(text[:n]) != "join here" {
		t.Errorf("user data %q", text[:n])
	}
	must[*imds.GetMetadataOutput](t)(m.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: "tags/instance/Name"}))
}

// A local cloud that is killed finds its things and its processes again.
func TestKilledLocalCloudAdoptsItsInstances(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a loop device")
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command(os.Args[0])
	disk := bootDisk(t, "booted and waiting", halts)
	cmd.Env = append(os.Environ(), "REHOST_TEST_SERVE="+dir, "REHOST_TEST_LISTEN="+address, "REHOST_TEST_DISK="+disk)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "a local cloud in its own process", func() bool { _, err := os.Stat(filepath.Join(dir, "ready")); return err == nil })
	c := client(t, "http://"+address, dir)
	vol := createVolume(t, c, 1, "a", "b")
	adopted := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "worker")}).InstanceId
	lost := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "worker")}).InstanceId
	guest := *run(t, c, &ec2.RunInstancesInput{ImageId: imageID(t, c, "halts"), InstanceType: "t3.nano"}).InstanceId
	eventually(t, 20*time.Second, "a guest", func() bool { return strings.Contains(console(t, c, guest), "booted") })
	eventually(t, 5*time.Second, "two programs", func() bool { return len(starts(t, c, adopted)) == 1 && len(starts(t, c, lost)) == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	pid := must[int](t)(strconv.Atoi(strings.Fields(mustRead(t, filepath.Join(dir, "instances", lost, "console.log")))[1]))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// A file that a crash left before the state knew it.
	stray := volumePath(dir, "vol-00000000000000000")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	c, stop := start(t, testConfig(dir, processImage, localcloud.Image{Name: "halts", Path: disk}))
	eventually(t, 5*time.Second, "the guest's monitor", func() bool {
		_, err := c.GetConsoleScreenshot(t.Context(), &ec2.GetConsoleScreenshotInput{InstanceId: &guest})
		return err == nil
	})
	if got := strings.Count(console(t, c, guest), "booted"); got != 1 {
		t.Errorf("the living guest was booted %d times", got)
	}
	found := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(t.Context(), nil)).Volumes
	found = slices.DeleteFunc(found, func(v types.Volume) bool { return v.State == types.VolumeStateInUse })
	if len(found) != 1 || *found[0].VolumeId != *vol.VolumeId || len(found[0].Tags) != 1 {
		t.Errorf("volumes after the kill: %+v", found)
	}
	if _, err := os.Stat(stray); !os.IsNotExist(err) {
		t.Errorf("a stray file: %v", err)
	}
	eventually(t, 5*time.Second, "the lost program to start again", func() bool { return len(starts(t, c, lost)) == 2 })
	if got := len(starts(t, c, adopted)); got != 1 {
		t.Errorf("the living program was started %d times", got)
	}
	pid = must[int](t)(strconv.Atoi(starts(t, c, adopted)[0][1]))
	stop()
	// It may wait for its new parent to take note of its end.
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !strings.Contains(string(status), ") Z ") {
		t.Error("the adopted program outlived the local cloud's end")
	}
	if !strings.HasSuffix(mustRead(t, filepath.Join(dir, "instances", adopted, "console.log")), "ended\n") {
		t.Error("the adopted program was not asked to end")
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
