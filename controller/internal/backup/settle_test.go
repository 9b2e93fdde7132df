package backup

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func entry(t *testing.T, bucket, key string, v any) protocol.BackupEntry {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return protocol.BackupEntry{Bucket: bucket, Key: key, Value: text}
}

func TestWhatAnOldRecordMeans(t *testing.T) {
	cut, now := time.Unix(1000, 0).UTC(), time.Unix(5000, 0).UTC()
	steps := func(status protocol.StepStatus) (out []protocol.Initiation) {
		for _, s := range protocol.InitiationSteps {
			out = append(out, protocol.Initiation{Step: s, Status: status})
		}
		return out
	}
	server := func(name string, change func(*protocol.Server)) protocol.BackupEntry {
		s := protocol.Server{Name: name, Generation: "g-" + name, Replica: "rs-1", Initiation: steps(protocol.StepSucceeded)}
		change(&s)
		return entry(t, protocol.BucketServers, name, s)
	}
	point := func(id string, state protocol.PointStage, snapshots ...string) protocol.BackupEntry {
		return entry(t, protocol.BucketPoints, "s."+id, protocol.Point{ID: id, Server: "s", State: state, Snapshots: snapshots})
	}
	out, settled, err := settle([]protocol.BackupEntry{
		server("fenced", func(s *protocol.Server) { s.Job, s.JobKind, s.Fence = "j", protocol.JobCutover, true }),
		server("launched", func(s *protocol.Server) { s.Job, s.Fence, s.Cutover = "j", true, &protocol.Launched{} }),
		server("reserved", func(s *protocol.Server) { s.Move = &protocol.Move{From: "rs-1", Target: "rs-2"} }),
		server("moved", func(s *protocol.Server) {
			s.Move = &protocol.Move{From: "rs-1", Target: "rs-2", Released: cut}
			s.Replica = "rs-2"
		}),
		server("finalized", func(s *protocol.Server) { s.Finalized, s.Generation = cut, "" }),
		entry(t, protocol.BucketStaging, "rs-2", protocol.ReplicaServer{Name: "rs-2", Servers: []string{"reserved", "moved"}}),
		point("ordered", protocol.PointOrdered), point("held", protocol.PointHeld), point("part", protocol.PointSnapshotting),
		point("group", protocol.PointSnapshotting, "snap-1"), point("complete", protocol.PointComplete, "snap-2"), point("removed", protocol.PointRemoved),
		entry(t, protocol.BucketEnrolments, "t1", protocol.Enrolment{Role: protocol.RoleAgent, Name: "moved"}),
		entry(t, protocol.BucketEnrolments, "t2", protocol.Enrolment{Role: protocol.RoleReplicaServer, Name: "rs-1"}),
		{Bucket: "rehost_new", Key: "k", Value: json.RawMessage(`{"x":1}`)},
	}, cut, now)
	if err != nil {
		t.Fatal(err)
	}
	servers, stages, checkpoints := map[string]protocol.Server{}, map[string]protocol.PointStage{}, 0
	for _, r := range out {
		switch v := r.value.(type) {
		case *protocol.Server:
			servers[v.Name] = *v
		case *protocol.Point:
			stages[v.ID] = v.State
		case protocol.Checkpoint:
			checkpoints++
		case *protocol.ReplicaServer:
			if diff := cmp.Diff([]string{"moved"}, v.Servers); diff != "" {
				t.Errorf("servers of rs-2 (-want +got):\n%s", diff)
			}
		}
	}
	for name, want := range map[string]struct{ fence, moves, doubted bool }{
		"fenced": {false, false, true}, "launched": {true, false, true}, "reserved": {false, false, true}, "moved": {false, true, true}, "finalized": {},
	} {
		s := servers[name]
		if s.Fence != want.fence || (s.Move != nil) != want.moves || s.Restored.Equal(cut) != want.doubted || s.Job != "" || s.JobKind != "" {
			t.Errorf("%s: got %+v", name, s)
		}
	}
	if s := servers["launched"]; s.Initiation[0].Status != protocol.StepSucceeded || s.Initiation[2].Status != protocol.StepNotStarted {
		t.Errorf("initiation: got %+v", s.Initiation)
	}
	if diff := cmp.Diff(map[string]protocol.PointStage{
		"ordered": protocol.PointLost, "held": protocol.PointLost, "part": protocol.PointLost, "group": protocol.PointSnapshotting,
		"complete": protocol.PointComplete, "removed": protocol.PointRemoved,
	}, stages); diff != "" {
		t.Errorf("points (-want +got):\n%s", diff)
	}
	if checkpoints != 4 || settled.Points != 3 || len(out) != 15+4 {
		t.Errorf("%d checkpoints, %d records, settled %+v", checkpoints, len(out), settled)
	}
	if diff := cmp.Diff([]string{"moved"}, settled.Revocable); diff != "" {
		t.Errorf("enrolled (-want +got):\n%s", diff)
	}
}
