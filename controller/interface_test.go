package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
	"rehost/protocol"
)

func TestNetworkInterfacesOfTestAndCutover(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	f.Launches[0].Subnet, f.Launches[0].SecurityGroups, f.Launches[0].TestSecurityGroups = "subnet-1", []string{"sg-cutover"}, []string{"sg-test"}
	f.Launches[0].IngressPorts = nil
	f.Launches[0].Interfaces = []protocol.LaunchInterface{
		{PrivateIP: "auto"},
		{Subnet: "subnet-1", TestSubnet: "subnet-2", SecurityGroups: []string{"sg-db"}, TestSecurityGroups: []string{"sg-db-test"}, PrivateIP: "10.0.2.9"},
	}
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	if diff := cmp.Diff([]cloud.NetworkInterface{
		{Subnet: "subnet-1", SecurityGroups: []string{"sg-test"}},
		{Subnet: "subnet-2", SecurityGroups: []string{"sg-db-test"}},
	}, w.launched(w.server().Record.Test).Interfaces); diff != "" {
		t.Errorf("of the test (-want +got):\n%s", diff)
	}
	w.awaitState(protocol.ReadyForCutover)
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	if diff := cmp.Diff([]cloud.NetworkInterface{
		{Subnet: "subnet-1", SecurityGroups: []string{"sg-cutover"}},
		{Subnet: "subnet-1", SecurityGroups: []string{"sg-db"}, PrivateIP: "10.0.2.9"},
	}, w.launched(w.server().Record.Cutover).Interfaces); diff != "" {
		t.Errorf("of the cutover (-want +got):\n%s", diff)
	}
}
