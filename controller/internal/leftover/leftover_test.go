package leftover

import (
	"testing"

	"rehost/internal/cloud"
	"rehost/protocol"
)

func TestExplain(t *testing.T) {
	r := Records{
		Servers: []protocol.Server{
			{Name: "web-1", Generation: "g2", Test: &protocol.Launched{Job: "test-1"}, Cutover: &protocol.Launched{Job: "cutover-1"}}, {Name: "gone-1"},
		},
		Points:   []protocol.Point{{Server: "web-1", ID: "p1", State: protocol.PointComplete}, {Server: "web-1", ID: "p2", State: protocol.PointRemoved, Cleared: true}, {Server: "web-1", ID: "p3", State: protocol.PointLost}},
		Jobs:     []protocol.Job{{ID: "test-1", Status: protocol.JobCompleted}, {ID: "test-2", Status: protocol.JobStarted}, {ID: "test-0", Status: protocol.JobCompleted}},
		Replicas: []protocol.ReplicaServer{{Name: "rs-1"}},
	}
	for _, c := range []struct {
		role, server, more, value string
		explained                 bool
	}{
		{cloud.RoleReplicaServer, "", cloud.TagReplicaServer, "rs-1", true},
		{cloud.RoleReplicaServer, "", cloud.TagReplicaServer, "rs-2", false},
		{cloud.RoleStagingVolume, "web-1", cloud.TagGeneration, "g2", true},
		{cloud.RoleStagingVolume, "web-1", cloud.TagGeneration, "g1", false},
		{cloud.RoleStagingVolume, "gone-1", cloud.TagGeneration, "", false},
		{cloud.RoleStagingVolume, "web-9", cloud.TagGeneration, "g2", false},
		{cloud.RolePointSnapshot, "web-1", cloud.TagPoint, "p1", true},
		{cloud.RolePointSnapshot, "web-1", cloud.TagPoint, "p2", false},
		{cloud.RolePointSnapshot, "web-1", cloud.TagPoint, "p3", true}, // it is cleared by itself
		{cloud.RolePointSnapshot, "web-2", cloud.TagPoint, "p1", false},
		{cloud.RoleClone, "web-1", cloud.TagJob, "test-2", true},
		{cloud.RoleClone, "web-1", cloud.TagJob, "test-1", false},
		{cloud.RoleConversion, "web-1", cloud.TagJob, "test-9", false},
		{cloud.RoleImage, "web-1", cloud.TagJob, "test-1", true},
		{cloud.RoleImage, "web-1", cloud.TagJob, "cutover-1", true},
		{cloud.RoleImage, "web-1", cloud.TagJob, "test-0", false},
		{cloud.RoleConvertedSnapshot, "web-1", cloud.TagJob, "test-2", true},
		{cloud.RoleConvertedSnapshot, "web-9", cloud.TagJob, "test-1", false},
		{cloud.RoleTarget, "web-9", cloud.TagJob, "test-9", true}, // never
		{"", "", "", "", true},
	} {
		tags := cloud.Tags{cloud.TagRole: c.role, cloud.TagServer: c.server, c.more: c.value}
		if got := r.Explain("x", tags); (got != "") != c.explained {
			t.Errorf("%v: got %q", tags, got)
		}
	}
}
