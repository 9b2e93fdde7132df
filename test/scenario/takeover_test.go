package scenario

import (
	"syscall"
	"testing"
	"time"

	"rehost/protocol"
	"rehost/test/migration"
)

const (
	// window is what an agent has sent and does not know to be durable, at most: its default.
	window = 128 << 20
	// written is more than the source's application writes during the test.
	written = 64 << 20
)

// A replication server's instance ends in the middle of the initial sync, and another one takes over: what the agent
// reads twice is at most the window. Then the new one hangs, neither dead nor alive, and a third one takes over from it. The
// replica is the source at a point after each.
func TestAnotherReplicationServerTakesOver(t *testing.T) {
	m := start(t)
	const setting = "freeze_budget = \"500ms\""
	applied(t, m, "", setting, setting+"\n  replace_after = \"20s\"")

	replicated(t, m, 700<<20)
	before := status(t, m)
	driver, err := m.Driver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	volume, err := driver.Volume(t.Context(), before.Record.Volumes[0].Volume)
	if err != nil || volume.Instance == "" {
		t.Fatalf("the staging volume: %+v, %v", volume, err)
	}
	if err := driver.TerminateInstance(t.Context(), volume.Instance, nil); err != nil {
		t.Fatal(err)
	}
	if s := status(t, m); s.Replication != protocol.ReplicationInitialSync && s.Replication != protocol.ReplicationStalled {
		t.Fatalf("the sync was over before the instance had ended: %s", s.Replication)
	}
	after := takenOver(t, m, before)
	disks := int64(0)
	for _, d := range after.Agent.Disks {
		disks += d.SizeBytes
	}
	if after.Agent.Read > disks+window+written {
		t.Errorf("the agent read %d MiB of disks of %d MiB: more than the window was sent twice", after.Agent.Read>>20, disks>>20)
	}
	t.Logf("read %d MiB of disks of %d MiB in all", after.Agent.Read>>20, disks>>20)
	equalAtNewPoint(t, m)

	signalReplicaServer(t, m, syscall.SIGSTOP)
	last := takenOver(t, m, after)
	if again := last.Agent.Read - after.Agent.Read; again > window+written {
		t.Errorf("the agent read %d MiB for the second takeover", again>>20)
	}
	equalAtNewPoint(t, m)
	moves(t, m)
}

// moves moves the replica to yet another replication server by order. The old one gives it up with all that it has, so
// the agent sends again what was on its way at most.
func moves(t *testing.T, m *migration.Migration) {
	t.Helper()
	before := status(t, m)
	began := time.Now()
	if err := m.Command(t.Context(), "server", "move", migration.Server, "--wait", "--timeout", "3m"); err != nil {
		t.Fatal(err)
	}
	t.Logf("moved %s later", time.Since(began).Round(time.Second))
	after := takenOver(t, m, before)
	if again := after.Agent.Read - before.Agent.Read; again > window+written {
		t.Errorf("the agent read %d MiB for the move", again>>20)
	}
	equalAtNewPoint(t, m)
	// The product's own way to compare a snapshot, by the EBS direct APIs.
	if err := m.Command(t.Context(), "verify", migration.Server, "--point", status(t, m).LastPoint.ID, "--wait", "--timeout", "5m"); err != nil {
		t.Error(err)
	}
}

func status(t *testing.T, m *migration.Migration) protocol.ServerStatus {
	t.Helper()
	s, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// takenOver waits until another replication server has taken over the same replica, and returns how things are then.
func takenOver(t *testing.T, m *migration.Migration, before protocol.ServerStatus) (after protocol.ServerStatus) {
	t.Helper()
	began := time.Now()
	until(t, "taken over from "+before.Record.Replica, 4*time.Minute, func() (bool, string) {
		s, err := m.Status(t.Context())
		if err != nil {
			return false, err.Error()
		}
		after = s
		taken := s.Record.Replica != "" && s.Record.Replica != before.Record.Replica && s.Record.Replacing == ""
		return taken && s.Replication == protocol.ReplicationContinuous, string(s.Replication) + " " + s.Waiting
	})
	t.Logf("CONTINUOUS by %s %s later", after.Record.Replica, time.Since(began).Round(time.Second))
	if after.Record.Generation != before.Record.Generation || after.Record.Volumes[0].Volume != before.Record.Volumes[0].Volume {
		t.Errorf("the replica is another one: %+v, was %+v", after.Record, before.Record)
	}
	return after
}

// equalAtNewPoint takes a point and compares the frozen source with the point's snapshot, byte by byte.
func equalAtNewPoint(t *testing.T, m *migration.Migration) {
	t.Helper()
	if err := m.Command(t.Context(), "point", "take", migration.Server, "--wait"); err != nil {
		t.Fatal(err)
	}
	s := status(t, m)
	if s.LastPoint == nil {
		t.Fatal("there is no point")
	}
	hashes, err := m.Hash(t.Context(), *s.LastPoint)
	if err != nil {
		t.Fatal(err)
	}
	if !hashes.Equal() {
		t.Errorf("the source at point %s is %s, the snapshot %s", s.LastPoint.ID, hashes.Source, hashes.Snapshot)
	}
}
