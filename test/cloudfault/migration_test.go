package cloudfault

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/internal/command"
	"rehost/localcloud"
	"rehost/protocol"
)

// creating are the calls that make something, or join or open it; deleting are those that end it.
var (
	creating = []string{
		"CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "CreateVolume", "AttachVolume", "CreateSnapshots", "CreateSnapshot", "RegisterImage",
	}
	deleting = []string{"RevokeSecurityGroupEgress", "DetachVolume", "DeleteVolume", "TerminateInstances", "DeregisterImage", "DeleteSnapshot"}
)

// TestMigrationThroughATroubledCloud loses the answer of each call that changes something once,
// throttles 30 % of the calls and fails 10 %. After each stage the cloud holds exactly what the
// records name.
func TestMigrationThroughATroubledCloud(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("REHOST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("REHOST_SEED=%d", seed)
	if os.Getenv("AWS_RETRY_MODE") == "" {
		t.Setenv("AWS_RETRY_MODE", "standard") // adaptive, each API soon gets one call a second: five minutes
	}
	recorder := &recorder{calls: map[string]int{}}
	w := newWorld(t, localcloud.Faults{Seed: seed, Throttle: 0.3, Fail: 0.1, Lose: slices.Concat(creating, deleting)}, recorder)
	w.controller()
	ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: fleet()})
	w.agent()
	w.awaitState(protocol.ReadyForTest)
	w.wantNothingElse("after the initiation", 1+2)
	w.run(protocol.JobTest)
	w.awaitState(protocol.ReadyForCutover)
	w.wantNothingElse("after the test", 1+2+1+2+1+1+2)
	w.run(protocol.JobCutover)
	w.awaitState(protocol.CuttingOver)
	w.wantLaunchedAsAsked()
	w.wantNothingElse("after the cutover", 1+2+1+2+1+1+2)
	w.run(protocol.JobFinalize)
	w.awaitState(protocol.Cutover)
	w.wantNothingElse("at the end", 1+2)
	w.wantTroubles()
	wantAllowed(t, recorder.actions())
	t.Logf("calls: %v", recorder.calls)
}

// fleet has one server with two disks in one wave, and no checks: nothing boots.
func fleet() protocol.Fleet {
	return protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "default", VolumeType: "gp3"}},
		Launches: []protocol.LaunchSettings{{
			Name: "web", InstanceType: "t3.small", IngressPorts: []int{8080}, PrivateIP: "copy", Profile: "app", Tenancy: "dedicated", HTTPTokens: "optional",
			HopLimit: 3, UserData: "#!/bin/sh\n", Tags: map[string]string{"team": "shop"}, VolumeType: "gp3", Interfaces: []protocol.LaunchInterface{{PrivateIP: "auto"}},
			Disks: []protocol.LaunchDisk{{Name: "/dev/sdb", VolumeType: "gp3", IOPS: 4000, Throughput: 250}},
		}},
		Servers:      []protocol.ServerSettings{{Name: server, Replication: "default", Launch: "web", Fence: "hook"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{server}}},
		Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop"}}},
	}
}

// wantLaunchedAsAsked asks another client what became of the launch block's wishes.
func (w *world) wantLaunchedAsAsked() {
	w.t.Helper()
	instance := w.status().Servers[0].Record.Cutover.Instance
	const query = "Reservations[0].Instances[0].[PrivateIpAddress,IamInstanceProfile.Arn,Placement.Tenancy,MetadataOptions.HttpTokens," +
		"MetadataOptions.HttpPutResponseHopLimit,length(NetworkInterfaces),Tags[?Key=='team'].Value|[0]]"
	got := w.aws("ec2", "describe-instances", "--instance-ids", instance, "--query", query)
	want := sourceAddress + "\tarn:aws:iam::000000000000:instance-profile/app\tdedicated\toptional\t3\t2\tshop\n"
	if got != want {
		w.t.Errorf("the target is %q, want %q", got, want)
	}
	got = w.aws("ec2", "describe-volumes", "--filters", "Name=attachment.instance-id,Values="+instance, "--query", "sort_by(Volumes,&Attachments[0].Device)[].[VolumeType,Iops,Throughput]")
	if want := "gp3\t4000\t250\ngp3\t3000\t125\n"; got != want {
		w.t.Errorf("its volumes are %q, want %q", got, want)
	}
	if got = w.aws("ec2", "describe-instance-attribute", "--instance-id", instance, "--attribute", "userData", "--query", "UserData.Value"); got != "IyEvYmluL3NoCg==\n" {
		w.t.Errorf("its user data is %q", got)
	}
}

// aws runs Debian's awscli, which is tried again by itself as the cloud is troubled.
func (w *world) aws(args ...string) string {
	w.t.Helper()
	args = append([]string{"--endpoint-url", w.config.Endpoint, "--region", w.config.Region, "--output", "text"}, args...)
	env := []string{"PATH=/usr/bin:/bin", "AWS_SHARED_CREDENTIALS_FILE=" + w.config.CredentialsFile, "AWS_MAX_ATTEMPTS=20", "AWS_RETRY_MODE=standard", "AWS_PAGER="}
	out, err := command.Run(w.t.Context(), "env", slices.Concat(env, []string{"/usr/bin/aws"}, args)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(out)
}

// wantNothingElse compares the cloud with the records, things by id, and counts them.
func (w *world) wantNothingElse(when string, count int) {
	w.t.Helper()
	client := w.driver()
	want, got := w.recorded(client), w.present(client)
	if diff := gocmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s: what the records name (-) and what the cloud holds (+):\n%s", when, diff)
	}
	if len(got) != count {
		w.t.Errorf("%s: the cloud holds %d things, want %d: %v", when, len(got), count, got)
	}
}

// recorded is what the controller's records name, with what hangs on it: a target's volumes, an image's snapshots.
func (w *world) recorded(client *cloud.Client) []string {
	w.t.Helper()
	s := w.status()
	rec := s.Servers[0].Record
	out := map[string]bool{}
	for _, rs := range s.Replicas {
		out[rs.Instance] = !rs.Retired
	}
	for _, v := range rec.Volumes {
		out[v.Volume] = true
	}
	for _, l := range []*protocol.Launched{rec.Test, rec.Cutover} {
		if l == nil {
			continue
		}
		out[l.Instance] = true
		inst, err := client.Instance(w.t.Context(), l.Instance)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, v := range inst.Volumes {
			out[v] = true
		}
		if rec.Lifecycle == protocol.Cutover {
			continue // the image is not kept
		}
		image, err := client.FindImage(w.t.Context(), l.Image)
		if err != nil {
			w.t.Fatal(err)
		}
		out[image.ID] = true
		for _, id := range image.Snapshots {
			out[id] = true
		}
	}
	for _, p := range ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: server}) {
		for _, id := range p.Snapshots {
			out[id] = true
		}
	}
	maps.DeleteFunc(out, func(_ string, there bool) bool { return !there })
	return slices.Sorted(maps.Keys(out))
}

// present is what the cloud holds but the images it was started with.
func (w *world) present(client *cloud.Client) []string {
	w.t.Helper()
	ctx := w.t.Context()
	volumes, err1 := client.Volumes(ctx, nil)
	snapshots, err2 := client.Snapshots(ctx, nil)
	images, err3 := client.Images(ctx, nil)
	instances, err4 := client.Instances(ctx, nil)
	if err := cmp.Or(err1, err2, err3, err4); err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, v := range volumes {
		out = append(out, v.ID)
	}
	for _, s := range snapshots {
		out = append(out, s.ID)
	}
	for _, i := range images {
		if i.Tags[cloud.TagRole] != "" {
			out = append(out, i.ID)
		}
	}
	for _, i := range instances {
		if i.Alive() {
			out = append(out, i.ID)
		}
	}
	slices.Sort(out)
	return out
}

// wantTroubles makes sure that the cloud gave the troubles that this test is about.
func (w *world) wantTroubles() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, call := range creating {
		if w.met["lose "+call] == 0 {
			w.t.Errorf("no answer of %s was lost", call)
		}
	}
	w.t.Logf("troubles: %v", w.met)
	for kind, least := range map[string]int{"throttle": 50, "fail": 2, "fail-done": 2} {
		if w.met[kind] < least {
			w.t.Errorf("only %d calls met %s, want %d", w.met[kind], kind, least)
		}
	}
}

// wantAllowed compares what was asked for with the controller's policy.
func wantAllowed(t *testing.T, actions []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/aws/controller.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range actions {
		if !strings.Contains(string(text), `"ec2:`+a+`"`) {
			t.Errorf("docs/aws/controller.json does not allow %s", a)
		}
	}
}
