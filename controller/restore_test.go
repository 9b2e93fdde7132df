package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/backup"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/cloud"
	"rehost/internal/hint"
	"rehost/protocol"
)

// cut takes a cut of the control plane and returns what is in it.
func (w *world) cut() (protocol.Cut, []byte) {
	w.t.Helper()
	subject := protocol.OperatorSubject(protocol.VerbBackup, "test") // asked once: another cut ends the one before
	first, err := bus.Request[protocol.BackupRequest, protocol.BackupPiece](w.t.Context(), w.operator, subject, protocol.BackupRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	var all []byte
	for {
		piece, err := ask[protocol.BackupRequest, protocol.BackupPiece](w, protocol.VerbBackup, protocol.BackupRequest{Cut: first.Cut.ID, Offset: int64(len(all))})
		if err != nil {
			w.t.Fatal(err)
		}
		if len(piece.Bytes) == 0 {
			return first.Cut, all
		}
		all = append(all, piece.Bytes...)
	}
}

// backup writes one with the keys of the bus in dir.
func (w *world) backup(dir string) string {
	w.t.Helper()
	keys, err := backup.ReadKeys(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	cut, content := w.cut()
	path := filepath.Join(w.t.TempDir(), "backup.tar.gz")
	if err := backup.Write(path, cut, strings.NewReader(string(content)), keys, time.Now()); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// newWorldIn is a world whose bus is in a controller's data folder, and where that is.
func newWorldIn(t *testing.T) (w *world, dir string) {
	t.Helper()
	dir = t.TempDir()
	w = newWorldOn(t, bustest.StartIn(t, busDir(dir), "127.0.0.1:0"))
	return w, dir
}

// lose ends the bus and deletes the folder; restore brings a backup back, and starts the bus where it was.
func (w *world) lose(dir string) {
	w.t.Helper()
	w.bus.Close()
	if err := os.RemoveAll(dir); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restore(cfg RestoreConfig) Restored {
	w.t.Helper()
	done, err := Restore(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatalf("%v (%s)", err, hint.Of(err))
	}
	w.bus = bustest.StartIn(w.t, busDir(cfg.Dir), strings.TrimPrefix(w.bus.Bus().Servers[0], "tls://"))
	return done
}

func (w *world) audit() []protocol.AuditEntry {
	w.t.Helper()
	page, err := ask[protocol.AuditRequest, protocol.AuditReply](w, protocol.VerbAudit, protocol.AuditRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	return page.Entries
}

func (w *world) jetstream() jetstream.JetStream {
	w.t.Helper()
	js, err := jetstream.New(bustest.Connect(w.t, w.bus, protocol.RoleController, "looker"))
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

// TestALostControllerComesBack with everything that it knew; replication goes on, and nothing is believed of the replica.
func TestALostControllerComesBack(t *testing.T) {
	w, dir := newWorldIn(t)
	stop := w.controller(t.Context())
	w.tested()
	before := w.server()
	job := w.newestJob()
	path := w.backup(busDir(dir))
	log := w.audit()
	stop()
	w.lose(dir)
	done := w.restore(RestoreConfig{File: path, Dir: dir, Reason: "the disk died"})
	if len(done.Jobs)+done.Points+len(done.Moves) > 0 || done.Aside != "" {
		t.Errorf("restored %+v", done)
	}
	js := w.jetstream()
	kv, err := js.KeyValue(t.Context(), protocol.BucketCheckpoints)
	if err != nil {
		t.Fatal(err)
	}
	var cp protocol.Checkpoint
	if e, err := kv.Get(t.Context(), "web-1."+before.Record.Generation); err != nil || bus.Decode(e.Value(), &cp) != nil || len(cp.Volumes) > 0 || cp.Position != (protocol.Position{}) || cp.Fresh {
		t.Errorf("the checkpoint is %+v, %v", cp, err)
	}
	stop = w.controller(t.Context())
	defer stop()
	w.await("the record to be believed, and replication", func() bool {
		s := w.server()
		return s.Record.Restored.IsZero() && s.Replication == protocol.ReplicationContinuous && initiated(s.Record)
	})
	after := w.server()
	if diff := cmp.Diff(before.Record, after.Record, cmpopts.IgnoreFields(protocol.Server{}, "Initiation", "Replication", "Transitions")); diff != "" {
		t.Errorf("the record (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(job, w.newestJob()); diff != "" {
		t.Errorf("the job (-before +after):\n%s", diff)
	}
	if _, err := js.Stream(t.Context(), after.Record.Stream); err != nil {
		t.Errorf("the stream: %v", err)
	}
	restored := w.audit()
	log[len(log)-1].Result, log[len(log)-1].Took = protocol.AuditUnknown, 0 // of the backup itself, which was under way
	if n := len(log); len(restored) <= n || restored[n].Verb != "restore" || restored[n].Reason != "the disk died" || restored[n].Result != protocol.AuditDone {
		t.Fatalf("the audit log is %+v", restored)
	}
	if diff := cmp.Diff(log, restored[:len(log)]); diff != "" {
		t.Errorf("the audit log (-before +after):\n%s", diff)
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
}

func initiated(r protocol.Server) bool {
	return !slices.ContainsFunc(r.Initiation, func(i protocol.Initiation) bool {
		return i.Status != protocol.StepSucceeded && i.Status != protocol.StepSkipped
	})
}

// TestARestoreDoesNotStartASourceBesideItsTarget has a server cut over after the backup.
func TestARestoreDoesNotStartASourceBesideItsTarget(t *testing.T) {
	w, dir := newWorldIn(t)
	stop := w.controller(t.Context())
	w.tested()
	path := w.backup(busDir(dir))
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobCutover).ID))
	w.awaitFences(true)
	stop()
	w.lose(dir)
	w.restore(RestoreConfig{File: path, Dir: dir})
	stop = w.controller(t.Context())
	defer stop()
	w.await("the doubt", func() bool {
		p := w.server().Record.Problem
		return p != nil && strings.Contains(p.Message, "writers are stopped, which the backup")
	})
	for _, kind := range []protocol.JobKind{protocol.JobTest, protocol.JobCutover} {
		job := w.awaitJobOrRefusal(protocol.StartRequest{Selection: protocol.Selection{Servers: []string{"web-1"}}, Kind: kind, Force: "test"})
		if !strings.Contains(job, "has not shown that it still holds") {
			t.Errorf("%s: got %q", kind, job)
		}
	}
	w.awaitFences(true)
	if n := w.cloud.alive(cloud.RoleTarget); n != 1 {
		t.Errorf("%d targets are alive, want that of the cutover", n)
	}
	change := protocol.ChangeRequest{Selection: protocol.Selection{Servers: []string{"web-1"}}, Action: protocol.ActionConfirm}
	subject := protocol.OperatorSubject(protocol.VerbChange, "test")
	if changed, err := bus.Request[protocol.ChangeRequest, []protocol.Changed](t.Context(), w.operator, subject, change); err != nil || changed[0].Problem != nil || changed[0].Record.Problem != nil {
		t.Fatalf("got %+v, %v", changed, err)
	}
	w.awaitFences(true, false)
	if changed, err := ask[protocol.ChangeRequest, []protocol.Changed](w, protocol.VerbChange, change); err != nil || changed[0].Problem == nil {
		t.Errorf("confirmed twice: got %+v, %v", changed, err)
	}
}

// awaitJobOrRefusal starts a job and returns why it was refused.
func (w *world) awaitJobOrRefusal(req protocol.StartRequest) string {
	w.t.Helper()
	_, err := ask[protocol.StartRequest, protocol.Job](w, protocol.VerbStart, req)
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestWhatWasUnderWayIsNotContinued has a job and a point on their way in the backup, and a point whose snapshots were deleted since.
func TestWhatWasUnderWayIsNotContinued(t *testing.T) {
	w, dir := newWorldIn(t)
	stop := w.controller(t.Context())
	w.tested()
	kept := w.server().LastPoint.ID
	w.mu.Lock()
	w.slow = "web-1" // the job waits for its point
	w.mu.Unlock()
	job := w.start(protocol.JobTest)
	w.await("a point", func() bool { return w.server().Record.PointOrder != nil })
	path := w.backup(busDir(dir))
	stop()
	snapshots, err := w.cloud.Snapshots(t.Context(), cloud.Tags{cloud.TagPoint: kept})
	if err != nil || len(snapshots) == 0 {
		t.Fatal(err)
	}
	for _, s := range snapshots {
		if err := w.cloud.DeleteSnapshot(t.Context(), s.ID); err != nil {
			t.Fatal(err)
		}
	}
	w.lose(dir)
	done := w.restore(RestoreConfig{File: path, Dir: dir})
	if !slices.Equal(done.Jobs, []string{job.ID}) || done.Points != 1 {
		t.Errorf("restored %+v", done)
	}
	w.mu.Lock()
	w.slow = ""
	w.mu.Unlock()
	stop = w.controller(t.Context())
	defer stop()
	ended := w.awaitJob(job.ID)
	if ended.Status != protocol.JobCancelled || ended.Cancel == nil || !strings.Contains(ended.Cancel.Reason, "rehost sweep") || ended.Servers[0].Status != protocol.StepCancelled {
		t.Errorf("the job is %+v", ended)
	}
	w.await("the record to be believed", func() bool { return w.server().Record.Restored.IsZero() })
	points, err := ask[protocol.PointsRequest, []protocol.Point](w, protocol.VerbPoints, protocol.PointsRequest{Server: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range points {
		want := protocol.PointLost
		if p.ID == kept {
			want = protocol.PointRemoved
		}
		if p.State != want || p.Problem == nil {
			t.Errorf("point %s is %s, want %s, with a reason: %+v", p.ID, p.State, want, p.Problem)
		}
	}
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
}

// TestABackupIsOneMoment makes cuts while two records are changed one after the other, again and again: none has the second change without the first.
func TestABackupIsOneMoment(t *testing.T) {
	w, _ := newWorldIn(t)
	defer w.controller(t.Context())()
	w.apply(w.fleet())
	w.await("a record", func() bool { return len(w.server().Record.Name) > 0 })
	for range 5 {
		// A server's record comes with the configuration that names it, and a request is in the log before its change is in the records.
		f := w.fleet()
		f.Applications[0].Name = "shop" + hex.EncodeToString([]byte(time.Now().Format("05.000000")))
		f.Waves[0].Applications = []string{f.Applications[0].Name}
		applied := make(chan struct{})
		go func() { defer close(applied); w.apply(f) }()
		cut, content := w.cut()
		<-applied
		sum := sha256.Sum256(content)
		if hex.EncodeToString(sum[:]) != cut.SHA256 || int64(len(content)) != cut.Bytes {
			t.Fatalf("the cut says %+v, and is %d bytes", cut, len(content))
		}
		var last uint64
		records := map[string]int{}
		lines := json.NewDecoder(strings.NewReader(string(content)))
		for lines.More() {
			var e protocol.BackupEntry
			if err := lines.Decode(&e); err != nil {
				t.Fatal(err)
			}
			if records[e.Bucket]++; e.Audit > 0 && e.Audit != last+1 {
				t.Errorf("entry %d of the audit log follows %d", e.Audit, last)
			}
			last = max(last, e.Audit)
		}
		if records[protocol.BucketFleet] != 1 || records[protocol.BucketServers] != 1 || records[protocol.BucketCheckpoints] != 0 || records[""] != cut.Audit {
			t.Errorf("the cut has %v", records)
		}
	}
	if _, err := ask[protocol.BackupRequest, protocol.BackupPiece](w, protocol.VerbBackup, protocol.BackupRequest{Cut: "other"}); err == nil || !strings.Contains(err.Error(), "not there any more") {
		t.Errorf("another cut: got %v", err)
	}
}

// TestARestoreIsRefused where it would do harm, and changes nothing then.
func TestARestoreIsRefused(t *testing.T) {
	w, dir := newWorldIn(t)
	stop := w.controller(t.Context())
	w.apply(w.fleet())
	path := w.backup(busDir(dir))
	cut, content := w.cut()
	stop()
	bare := filepath.Join(t.TempDir(), "bare")
	if err := backup.Write(bare, cut, strings.NewReader(string(content)), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	refused := func(want string, cfg RestoreConfig) {
		t.Helper()
		left := list(t, cfg.Dir)
		_, err := Restore(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), want) || hint.Of(err) == "" {
			t.Errorf("got %v, hint %q", err, hint.Of(err))
		}
		if diff := cmp.Diff(left, list(t, cfg.Dir)); diff != "" {
			t.Errorf("%s: the folder was changed (-before +after):\n%s", want, diff)
		}
	}
	w.bus.Close()
	release, err := lockDir(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	refused("a controller runs in", RestoreConfig{File: path, Dir: dir, Force: true})
	if err := release(); err != nil {
		t.Fatal(err)
	}
	refused("holds a control plane already", RestoreConfig{File: path, Dir: dir})
	empty, foreign := t.TempDir(), t.TempDir()
	for _, dir := range []string{empty, foreign} { // its file stays
		if release, err = lockDir(t.Context(), dir, 0); err != nil || release() != nil {
			t.Fatal(err)
		}
	}
	refused("has the keys of the bus", RestoreConfig{File: bare, Dir: empty})
	refused("is not a backup", RestoreConfig{File: filepath.Join(busDir(dir), "ca.pem"), Dir: empty})

	// The keys that are there will do, if they are this fleet's.
	otherBus := bustest.StartIn(t, busDir(foreign), "127.0.0.1:0")
	otherBus.Close()
	refused("are of fleet", RestoreConfig{File: bare, Dir: foreign, Force: true})
	done, err := Restore(t.Context(), RestoreConfig{File: bare, Dir: dir, Force: true, NewIdentities: true})
	if err != nil || done.Aside == "" || len(list(t, done.Aside)) == 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	again := bustest.StartIn(t, busDir(dir), "127.0.0.1:0")
	if fleet, err := again.Authority().Fleet(); err != nil || fleet != cut.Fleet {
		t.Errorf("the fleet is %q, want %q, %v", fleet, cut.Fleet, err)
	}
	if again.Bus().CA != w.bus.Bus().CA {
		t.Error("the certificate is another one")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	old := bustest.Context(t, w.bus, protocol.RoleAgent, "web-1") // signed by the old keys
	old.Bus = again.Bus()
	if nc, err := bus.Connect(ctx, old, hclog.NewNullLogger()); err == nil {
		nc.Close()
		t.Error("an old identity is let in")
	}
}

// list is the files in a folder, by their paths.
func list(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		out = append(out, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
