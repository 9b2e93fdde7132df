package controller

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// launched returns what the target of a server's newest launch was launched with.
func (w *world) launched(l *protocol.Launched) cloud.InstanceSpec {
	w.t.Helper()
	if l == nil {
		w.t.Fatal("nothing is launched")
	}
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	return w.cloud.specs[l.Instance]
}

func TestALaunchIsAsItsBlockSays(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Launches[0] = protocol.LaunchSettings{
		Name: "web", InstanceType: protocol.InstanceTypeAuto, IngressPorts: []int{w.port}, Tags: map[string]string{"team": "shop"},
		SecurityGroups: []string{"sg-cutover"}, TestSecurityGroups: []string{"sg-test"}, PrivateIP: "copy", Profile: "web", Tenancy: "dedicated",
		HTTPTokens: "required", HopLimit: 2, UserData: "#!/bin/sh\n", VolumeType: "gp3", Disposition: "started",
		Disks: []protocol.LaunchDisk{{Name: "/dev/sdb", VolumeType: "io2", IOPS: 9000}},
	}
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	got := w.launched(w.server().Record.Test)
	want := cloud.LaunchOptions{
		PrivateIP: "10.0.0.7", Profile: "web", Tenancy: "dedicated", HTTPTokens: "required", HopLimit: 2,
		Volumes: []cloud.VolumeOptions{{Type: "gp3"}, {Type: "io2", IOPS: 9000}},
	}
	if diff := cmp.Diff(want, got.Options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	if got.Type != "t3.large" || string(got.UserData) != "#!/bin/sh\n" || got.Tags["team"] != "shop" || got.Tags[cloud.TagServer] != "web-1" {
		t.Errorf("launched %+v", got)
	}
	if len(got.SecurityGroups) != 2 || got.SecurityGroups[0] != "sg-test" {
		t.Errorf("security groups of the test: %v", got.SecurityGroups)
	}
	w.awaitState(protocol.ReadyForCutover)
	f.Launches[0].IngressPorts, f.Launches[0].Disposition = nil, "stopped"
	w.apply(f)
	job := w.awaitJob(w.start(protocol.JobCutover).ID)
	wantSucceeded(t, job)
	cutover := w.server().Record.Cutover
	if got := w.launched(cutover); len(got.SecurityGroups) != 1 || got.SecurityGroups[0] != "sg-cutover" {
		t.Errorf("security groups of the cutover: %v", got.SecurityGroups)
	}
	if i, err := w.cloud.Instance(t.Context(), cutover.Instance); err != nil || i.State != cloud.InstanceStopped {
		t.Errorf("the target is %s, %v", i.State, err)
	}
	for _, s := range job.Servers[0].Steps {
		if s.Name == "check" && (s.Status != protocol.StepSkipped || !strings.Contains(s.Detail, "stopped")) {
			t.Errorf("the check of a stopped target: %+v", s)
		}
	}
}

func TestAPlanIsComparedWithTheCloud(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Launches[0].Subnet = "subnet-9"
	for _, err := range []error{
		func() error {
			_, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: f})
			return err
		}(),
		func() error {
			_, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f})
			return err
		}(),
	} {
		if !isProblem(err) || !strings.Contains(err.Error(), `launch web: there is no subnet "subnet-9"`) {
			t.Errorf("got %v", err)
		}
	}
	f.Launches[0].Subnet, f.Launches[0].BootMode = "subnet-1", "uefi"
	_, err := ask[protocol.PlanRequest, protocol.Plan](w, protocol.VerbPlan, protocol.PlanRequest{Fleet: f})
	if !isProblem(err) || !strings.Contains(err.Error(), "boots by bios, server web-1 by uefi") {
		t.Errorf("a type that does not boot so: got %v", err)
	}
}
