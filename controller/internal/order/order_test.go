package order

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// paired is a server whose replica rs-1 is to keep.
func paired(name string) protocol.Server {
	r := protocol.Server{
		Name: name, Generation: "g", Stream: "s", Replica: "rs-1",
		Volumes: []protocol.StagingVolume{{Disk: "/dev/sda", Volume: "vol-1", SizeBytes: 1}},
	}
	for _, s := range protocol.InitiationSteps {
		r.Initiation = append(r.Initiation, protocol.Initiation{Step: s, Status: protocol.StepSucceeded})
	}
	return r
}

func TestReplicaNamesItsOwnServersAndReleasesWhatNobodyAwaits(t *testing.T) {
	early := paired("early")
	for i := range early.Initiation {
		early.Initiation[i].Status = protocol.StepNotStarted
	}
	other := paired("other")
	other.Replica = "rs-2"
	report := protocol.ReplicaReport{Replicas: []protocol.ReplicaStatus{
		{Server: "held", Held: &protocol.PointMark{ID: "p1"}}, {Server: "stale", Held: &protocol.PointMark{ID: "p0"}},
	}}
	got := Replica("rs-1", []protocol.Server{early, other, paired("held"), paired("stale")}, report, func(_, id string) bool { return id == "p1" })
	want := protocol.ReplicaOrder{Replicas: []protocol.ReplicaAssignment{
		{Server: "held", Generation: "g", Stream: "s", Disks: []protocol.ReplicaVolume{{Volume: "vol-1", SizeBytes: 1, Virgin: true}}, Released: []string{}},
		{Server: "stale", Generation: "g", Stream: "s", Disks: []protocol.ReplicaVolume{{Volume: "vol-1", SizeBytes: 1, Virgin: true}}, Released: []string{"p0"}},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
