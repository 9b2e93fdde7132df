package cloud_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/localcloud"
	"rehost/localcloud/cloudtest"
)

// TestMain lets the test binary be the program of a process image.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "wait" {
		time.Sleep(time.Minute)
		return
	}
	os.Exit(m.Run())
}

// open starts a local cloud with one process image, "helper".
func open(t *testing.T) *cloud.Client {
	t.Helper()
	return openWith(t, localCloud(t), nil)
}

func localCloud(t *testing.T) localcloud.Config {
	t.Helper()
	cfg := localcloud.Default()
	cfg.Dir, cfg.Listen, cfg.PoolSizeBytes, cfg.StopGrace = t.TempDir(), "127.0.0.1:0", 400<<20, time.Second
	cfg.Images = []localcloud.Image{{Name: "helper", Program: []string{os.Args[0], "wait"}}}
	return cfg
}

// openWith starts a local cloud; met, if not nil, is told of each trouble that the driver meets.
func openWith(t *testing.T, cfg localcloud.Config, met func(action, kind string)) *cloud.Client {
	t.Helper()
	c, _ := openUntil(t, cfg, met)
	return c
}

// openUntil is [openWith] for a local cloud that may be stopped before the test ends.
func openUntil(t *testing.T, cfg localcloud.Config, met func(action, kind string)) (c *cloud.Client, stop func()) {
	t.Helper()
	info, stop := cloudtest.Start(t, cfg, hclog.Info, met)
	t.Setenv("AWS_ACCESS_KEY_ID", "of-somebody-else") // the named file goes first
	t.Setenv("AWS_SECRET_ACCESS_KEY", "of-somebody-else")
	c, err := cloud.Open(t.Context(), cloud.Config{
		Endpoint: info.Endpoint, Region: info.Region, CredentialsFile: info.CredentialsFile, Poll: 20 * time.Millisecond, MaxBackoff: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, stop
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatalf("%v (hint: %s)", err, hint.Of(err))
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, hint.Of(err))
	}
}

// launch runs one instance of the process image.
func launch(t *testing.T, c *cloud.Client) cloud.Instance {
	t.Helper()
	ctx := t.Context()
	image := must[cloud.Image](t)(c.FindImage(ctx, "helper"))
	group := must[string](t)(c.EnsureSecurityGroup(ctx, cloud.GroupSpec{Name: "g", Description: "for a test", Ports: []int{80}, Closed: true}))
	spec := cloud.InstanceSpec{
		Token: "t-1", Image: image.ID, Type: "t3.small", SecurityGroups: []string{group}, UserData: []byte("one"), Own: true,
		Tags: cloud.Tags{cloud.TagRole: cloud.RoleReplicaServer, cloud.TagReplicaServer: "rs-1"},
	}
	inst := must[cloud.Instance](t)(c.RunInstance(ctx, spec))
	spec.UserData = []byte("another secret") // as after a crash: the old one is not kept
	if again := must[cloud.Instance](t)(c.RunInstance(ctx, spec)); again.ID != inst.ID {
		t.Errorf("the same tags ran %s and %s", inst.ID, again.ID)
	}
	return must[cloud.Instance](t)(c.WaitInstance(ctx, inst.ID, cloud.InstanceRunning, nil))
}

func volume(t *testing.T, c *cloud.Client, inst cloud.Instance, token string) string {
	t.Helper()
	ctx := t.Context()
	spec := cloud.VolumeSpec{
		Token: token, Zone: inst.Zone, SizeBytes: 10 << 20,
		Tags: cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume, cloud.TagDisk: token},
	}
	v := must[cloud.Volume](t)(c.CreateVolume(ctx, spec))
	if again := must[cloud.Volume](t)(c.CreateVolume(ctx, spec)); again.ID != v.ID {
		t.Errorf("token %s made %s and %s", token, v.ID, again.ID)
	}
	if v.SizeBytes != 1<<30 {
		t.Errorf("10 MiB became %d bytes, want 1 GiB", v.SizeBytes)
	}
	ok(t, c.AttachVolume(ctx, v.ID, inst.ID, nil))
	ok(t, c.AttachVolume(ctx, v.ID, inst.ID, nil))
	return v.ID
}

func TestEverythingIsMadeOnce(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	ok(t, c.Check(ctx))
	inst := launch(t, c)
	volumes := []string{volume(t, c, inst, "v-0"), volume(t, c, inst, "v-1")}
	other := volume(t, c, inst, "v-2")

	point := cloud.Tags{cloud.TagRole: cloud.RolePointSnapshot, cloud.TagPoint: "p1"}
	first := must[[]cloud.Snapshot](t)(c.SnapshotVolumes(ctx, inst.ID, volumes, point))
	again := must[[]cloud.Snapshot](t)(c.SnapshotVolumes(ctx, inst.ID, volumes, point))
	var ids []string
	for i := range first {
		if first[i].Volume != volumes[i] || again[i].ID != first[i].ID {
			t.Errorf("snapshot %d: of %s, first %s, again %s", i, first[i].Volume, first[i].ID, again[i].ID)
		}
		ids = append(ids, first[i].ID)
	}
	ok(t, c.WaitSnapshots(ctx, ids, nil))
	if all := must[[]cloud.Snapshot](t)(c.Snapshots(ctx, nil)); len(all) != 2 {
		t.Errorf("%d snapshots, want those of 2 volumes and none of %s", len(all), other)
	}
	// One that got lost is taken, the other is not taken twice.
	ok(t, c.DeleteSnapshot(ctx, first[1].ID))
	repaired := must[[]cloud.Snapshot](t)(c.SnapshotVolumes(ctx, inst.ID, volumes, point))
	if repaired[0].ID != first[0].ID || repaired[1].Volume != volumes[1] || repaired[1].ID == first[1].ID {
		t.Errorf("after one was lost: %+v", repaired)
	}
	spec := cloud.ImageSpec{Name: "image-1", Root: repaired[0].ID, Data: []string{repaired[1].ID}, Tags: cloud.Tags{cloud.TagRole: cloud.RoleImage}}
	image := must[cloud.Image](t)(c.RegisterImage(ctx, spec, nil))
	if twice := must[cloud.Image](t)(c.RegisterImage(ctx, spec, nil)); twice.ID != image.ID {
		t.Errorf("the name image-1 made %s and %s", image.ID, twice.ID)
	}
	if diff := cmp.Diff([]string{repaired[0].ID, repaired[1].ID}, image.Snapshots); diff != "" {
		t.Errorf("the image's snapshots (-want +got):\n%s", diff)
	}
	tearDown(t, c, inst, image, append(volumes, other), []string{repaired[0].ID, repaired[1].ID})
}

// tearDown deletes everything twice: what is gone is no error.
func tearDown(t *testing.T, c *cloud.Client, inst cloud.Instance, image cloud.Image, volumes, snapshots []string) {
	t.Helper()
	ctx := t.Context()
	for range 2 {
		ok(t, c.DeregisterImage(ctx, image.ID))
		for _, s := range snapshots {
			ok(t, c.DeleteSnapshot(ctx, s))
		}
		ok(t, c.DeleteVolume(ctx, volumes[0])) // while attached
		ok(t, c.TerminateInstance(ctx, inst.ID, nil))
		for _, v := range volumes {
			ok(t, c.DeleteVolume(ctx, v))
		}
	}
	left := must[[]cloud.Volume](t)(c.Volumes(ctx, nil))
	if left = slices.DeleteFunc(left, func(v cloud.Volume) bool { return v.Tags[cloud.TagRole] != cloud.RoleStagingVolume }); len(left) > 0 {
		t.Errorf("volumes are left: %+v", left)
	}
}

func TestErrorsSayWhatTheyAre(t *testing.T) {
	c := open(t)
	ctx := t.Context()
	_, err := c.Volume(ctx, "vol-0123456789abcdef0")
	if !cloud.NotFound(err) || cloud.Permanent(err) || cloud.Throttled(err) {
		t.Errorf("an unknown volume: %v", err)
	}
	_, err = c.FindImage(ctx, "no-such-image")
	if !cloud.NotFound(err) || hint.Of(err) == "" {
		t.Errorf("an unknown image: %v, hint %q", err, hint.Of(err))
	}
	if _, err = c.Instance(ctx, "i-0123456789abcdef0"); !cloud.NotFound(err) {
		t.Errorf("an unknown instance: %v", err)
	}
	if _, err := c.ZoneOf(ctx, "subnet-0123456789abcdef0"); !cloud.NotFound(err) {
		t.Errorf("an unknown subnet: %v", err)
	}
	limited, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := c.WaitInstance(limited, "i-0123456789abcdef0", cloud.InstanceRunning, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for an unknown instance: %v", err)
	}
}

// TestATokenOfALostAnswerIsFollowed plays an EC2 that launched an instance whose answer was lost, with
// other user data, and that shows it late.
func TestATokenOfALostAnswerIsFollowed(t *testing.T) {
	const (
		mismatch = `<Response><Errors><Error><Code>IdempotentParameterMismatch</Code><Message>other parameters</Message></Error></Errors></Response>`
		none     = `<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>`
		one      = `<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>` +
			`<instanceState><name>running</name></instanceState></item></instancesSet></item></reservationSet></DescribeInstancesResponse>`
	)
	looks := 0
	ec2 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := one
		if r.FormValue("Action") == "RunInstances" {
			w.WriteHeader(http.StatusBadRequest)
			answer = mismatch
		} else if looks++; looks < 3 {
			answer = none
		}
		if _, err := io.WriteString(w, answer); err != nil {
			t.Error(err)
		}
	}))
	defer ec2.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	c, err := cloud.Open(t.Context(), cloud.Config{Endpoint: ec2.URL, Region: "local-1", Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	inst, err := c.RunInstance(t.Context(), cloud.InstanceSpec{Token: "t", Image: "ami-1", Tags: cloud.Tags{cloud.TagJob: "j"}})
	if err != nil || inst.ID != "i-1" {
		t.Errorf("got %+v, %v", inst, err)
	}
}

func TestNoEndpointIsToldWithAHint(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	c, err := cloud.Open(t.Context(), cloud.Config{Endpoint: "http://127.0.0.1:1", Region: "local-1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := c.Check(ctx); err == nil || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}
