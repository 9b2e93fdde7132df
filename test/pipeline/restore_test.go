package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehost/controller"
	"rehost/internal/backup"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// TestAReplicaThatARestoredRecordDoesNotKnowIsComparedWhole restores a control plane whose backup is from before the first byte: it takes the
// volumes for those that were made empty. What the source has zeroed since must become zero on them all the same, on a replication server
// that has never seen them.
func TestAReplicaThatARestoredRecordDoesNotKnowIsComparedWhole(t *testing.T) {
	t.Parallel()
	rng := rngOf(t)
	dir := t.TempDir()
	w := newWorldOn(t, bustest.StartIn(t, filepath.Join(dir, "bus"), "127.0.0.1:0"), 8<<20)
	path := w.backupOf(dir, protocol.Server{Name: serverName, Generation: generation, Stream: protocol.StreamName(serverName, generation), Replica: replicaName})
	w.fill(rng, 200)
	replica := w.startReplica()
	agent := w.startAgent(false)
	w.awaitContinuous()
	if !w.takePoint("before") {
		t.Fatal("no point before the loss")
	}
	for _, p := range []*process{replica, agent} {
		if err := p.stop(); err != nil {
			t.Fatal(err)
		}
	}
	address := strings.TrimPrefix(w.bus.Bus().Servers[0], "tls://")
	w.bus.Close()
	// The source is rebooted, and half of it is zero then: nobody tracks that.
	zeros := make([]byte, w.source.sizes[0]/2)
	if err := w.source.Write(0, zeros, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "work")); err != nil { // it has been replaced
		t.Fatal(err)
	}
	if _, err := controller.Restore(t.Context(), controller.RestoreConfig{File: path, Dir: dir, Force: true}); err != nil {
		t.Fatal(err)
	}
	w.bus = bustest.StartIn(t, filepath.Join(dir, "bus"), address)
	w.await("the bus", func(protocol.AgentReport, protocol.ReplicaStatus) bool { return w.nc.IsConnected() })
	w.ensureStream()
	w.boot = "-after"
	w.mu.Lock()
	w.agent, w.replica = protocol.AgentReport{}, protocol.ReplicaReport{}
	w.mu.Unlock()
	w.startReplica()
	w.startAgent(false)
	w.awaitContinuous()
	if !w.takePoint("after") {
		t.Error("no point after the restore")
	}
}

// backupOf writes a backup that knows one server, with the keys of the world's bus.
func (w *world) backupOf(dir string, record protocol.Server) string {
	w.tb.Helper()
	value, err := json.Marshal(record)
	if err != nil {
		w.tb.Fatal(err)
	}
	line, err := json.Marshal(protocol.BackupEntry{Bucket: protocol.BucketServers, Key: record.Name, Value: value})
	if err != nil {
		w.tb.Fatal(err)
	}
	keys, err := backup.ReadKeys(filepath.Join(dir, "bus"))
	if err != nil {
		w.tb.Fatal(err)
	}
	fleet, err := w.bus.Authority().Fleet()
	if err != nil {
		w.tb.Fatal(err)
	}
	sum := sha256.Sum256(line)
	path := filepath.Join(w.tb.TempDir(), "backup.tar.gz")
	cut := protocol.Cut{At: time.Now(), Fleet: fleet, Format: protocol.RecordFormat, Bytes: int64(len(line)), SHA256: hex.EncodeToString(sum[:]), Records: 1}
	if err := backup.Write(path, cut, strings.NewReader(string(line)), keys, time.Now()); err != nil {
		w.tb.Fatal(err)
	}
	return path
}
