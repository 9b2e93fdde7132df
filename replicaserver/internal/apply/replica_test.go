package apply

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/codec"
	"rehost/protocol"
)

// disk is a volume in memory of which only flushed bytes survive, and whose flush and write can fail.
type disk struct {
	mu        sync.Mutex
	data      []byte
	failFlush bool
	failWrite bool
	flushes   int
}

func (d *disk) WriteAt(b []byte, offset int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failWrite {
		return 0, errors.New("input/output error")
	}
	return copy(d.data[offset:], b), nil
}

func (d *disk) ReadAt(b []byte, offset int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return copy(b, d.data[offset:]), nil
}

func (d *disk) Zero(offset, length int64) error {
	_, err := d.WriteAt(make([]byte, length), offset)
	return err
}

func (d *disk) Flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushes++
	if d.failFlush {
		return errors.New("input/output error")
	}
	return nil
}

func (d *disk) SizeBytes() int64 { return int64(len(d.data)) }

func (d *disk) set(change func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

// fixture is a replica on a bus, and the agent's end of it.
type fixture struct {
	t       *testing.T
	nc      *nats.Conn
	js      jetstream.JetStream
	kv      jetstream.KeyValue
	disk    *disk
	signals chan *nats.Msg
	epoch   uint64
	session protocol.Session
	seq     uint64
	prev    protocol.Digest
	packer  codec.Packer
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	s := bustest.Start(t)
	f := &fixture{t: t, nc: bustest.Connect(t, s, protocol.RoleController, "test"), disk: &disk{data: make([]byte, testSize)}, signals: make(chan *nats.Msg, 1000)}
	var err error
	if f.js, err = jetstream.New(f.nc); err != nil {
		t.Fatal(err)
	}
	if f.kv, err = f.js.KeyValue(t.Context(), protocol.BucketCheckpoints); err != nil {
		t.Fatal(err)
	}
	if err := bus.EnsureStream(t.Context(), f.js, "web-1", "g", 64<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.nc.ChanSubscribe(protocol.SignalSubject("web-1"), f.signals); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) run(checkpoint protocol.Checkpoint, revision uint64) (r *Replica, stop func()) {
	f.t.Helper()
	a := protocol.ReplicaAssignment{Server: "web-1", Generation: "g", Stream: protocol.StreamName("web-1", "g"), Disks: []protocol.ReplicaVolume{{Volume: "vol-1"}}}
	r = New(a, []Target{f.disk}, checkpoint, revision, Deps{
		Conn: f.nc, JS: f.js, KV: f.kv, Changed: func() {},
		Logger: hclog.New(&hclog.LoggerOptions{Output: f.t.Output(), Level: hclog.Debug}),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				f.t.Errorf("replica: %v", err)
			}
		})
	}
	f.t.Cleanup(stop)
	return r, stop
}

func (f *fixture) send(frame *protocol.Frame) {
	f.t.Helper()
	f.seq++
	frame.Session, frame.Seq, frame.Prev, frame.Server = f.session, f.seq, f.prev, protocol.ServerKey("web-1")
	b, digest := frame.Encode(nil)
	f.prev = digest
	if _, err := f.js.Publish(f.t.Context(), protocol.BlocksSubject("web-1"), b); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) hello(base protocol.Position) {
	f.t.Helper()
	f.epoch++
	f.session[0]++
	f.seq, f.prev = 0, protocol.Digest{}
	meta, err := json.Marshal(protocol.Hello{Epoch: f.epoch, Server: "web-1", Generation: "g", Full: base.Seq == 0, Base: base, Disks: []protocol.HelloDisk{{SizeBytes: testSize}}})
	if err != nil {
		f.t.Fatal(err)
	}
	f.send(&protocol.Frame{Type: protocol.FrameHello, Meta: meta})
}

func (f *fixture) blocks(offset int64, fill byte) {
	f.t.Helper()
	frame := protocol.Frame{Type: protocol.FrameBlocks}
	f.packer.Pack(&frame, []protocol.Extent{{Offset: offset, Length: 4096}}, bytes.Repeat([]byte{fill}, 4096), make([]byte, 4096))
	f.send(&frame)
}

func (f *fixture) await(what string, ok func(s protocol.Signal) bool) protocol.Signal {
	f.t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		select {
		case m := <-f.signals:
			var s protocol.Signal
			if err := json.Unmarshal(m.Data, &s); err != nil {
				f.t.Fatal(err)
			}
			if ok(s) {
				return s
			}
		case <-timeout:
			f.t.Fatalf("no signal: %s", what)
		}
	}
}

func (f *fixture) checkpoint() (c protocol.Checkpoint, revision uint64) {
	f.t.Helper()
	e, err := f.kv.Get(f.t.Context(), Key("web-1", "g"))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return c, 0
	}
	if err == nil {
		err = json.Unmarshal(e.Value(), &c)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return c, e.Revision()
}

func TestDurableIsSaidAfterFlushAndCheckpoint(t *testing.T) {
	f := newFixture(t)
	f.run(protocol.Checkpoint{}, 0)
	f.hello(protocol.Position{})
	f.blocks(4096, 7)
	s := f.await("durable 2", func(s protocol.Signal) bool { return s.Durable.Seq == 2 })
	c, _ := f.checkpoint()
	if c.Position.Seq < s.Durable.Seq || f.disk.flushes == 0 {
		t.Fatalf("durable %d with checkpoint %d after %d flushes", s.Durable.Seq, c.Position.Seq, f.disk.flushes)
	}
	if f.disk.data[4096] != 7 {
		t.Fatal("durable, and not written")
	}
	info, err := f.js.Stream(t.Context(), protocol.StreamName("web-1", "g"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(5 * time.Second)
	for info.CachedInfo().State.Msgs > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
		if info, err = f.js.Stream(t.Context(), protocol.StreamName("web-1", "g")); err != nil {
			t.Fatal(err)
		}
	}
	if n := info.CachedInfo().State.Msgs; n > 0 {
		t.Fatalf("%d durable frames are still in the stream", n)
	}
}

// An agent that was killed just after it opened a session may have left its hello and frames in a socket's buffers, from
// which they come behind those of the next agent.
func TestALateSessionOverwritesNothing(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run(protocol.Checkpoint{}, 0)
	f.hello(protocol.Position{})
	f.blocks(0, 1)
	base := f.await("durable 2", func(s protocol.Signal) bool { return s.Durable.Seq == 2 }).Durable
	late := *f // of the agent that is killed
	late.epoch, late.session[0] = 1, 0xaa
	f.epoch = 10
	f.hello(base)
	f.blocks(0, 2)
	f.await("the new session", func(s protocol.Signal) bool { return s.Durable.Session == f.session && s.Durable.Seq == 2 })

	late.hello(base)
	late.blocks(0, 9)
	f.blocks(4096, 3)
	late.blocks(8192, 9)
	f.await("the new session, undisturbed", func(s protocol.Signal) bool {
		if s.Durable.Session != f.session || s.Nak != nil && s.Nak.Session == f.session {
			t.Fatalf("signal %+v", s)
		}
		return s.Durable.Seq == 3
	})
	f.await("the late session is told", func(s protocol.Signal) bool {
		return s.Nak != nil && s.Nak.Session == late.session && s.Nak.Code == protocol.NakStale && s.Nak.Epoch == f.epoch
	})
	stop()
	// The next process of the replication server knows it, too.
	c, revision := f.checkpoint()
	f.run(c, revision)
	late.epoch, late.session[0] = 2, 0xab
	late.hello(base)
	late.blocks(0, 9)
	f.blocks(12288, 4)
	f.await("the new session after a restart", func(s protocol.Signal) bool {
		return s.Durable.Session == f.session && s.Durable.Seq == 4
	})
	if f.disk.data[0] != 2 || f.disk.data[4096] != 3 || f.disk.data[8192] != 0 || f.disk.data[12288] != 4 {
		t.Fatalf("the volume has %d %d %d %d", f.disk.data[0], f.disk.data[4096], f.disk.data[8192], f.disk.data[12288])
	}
}

// A stream that was made anew counts from 1 again, and has frames that nobody has seen yet.
func TestAStreamThatWasMadeAnewIsNotFreedByTheOldOnesCount(t *testing.T) {
	f := newFixture(t)
	r := New(protocol.ReplicaAssignment{Server: "web-1", Generation: "g", Stream: protocol.StreamName("web-1", "g"), Disks: []protocol.ReplicaVolume{{Volume: "vol-1"}}},
		[]Target{f.disk}, protocol.Checkpoint{}, 0, Deps{Conn: f.nc, JS: f.js, KV: f.kv, Changed: func() {}, Logger: hclog.NewNullLogger()})
	f.hello(protocol.Position{})
	f.blocks(0, 1)
	s, err := f.js.Stream(t.Context(), protocol.StreamName("web-1", "g"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	created := s.CachedInfo().Created
	if err := r.receive(t.Context(), received{seq: 1000, born: created.Add(-time.Hour), data: first.Data}); err != nil {
		t.Fatal(err)
	}
	r.recv.born = created // the consumer has found the new stream; nothing of it has come yet
	for _, step := range []struct {
		seq  uint64
		born time.Time
		want uint64
	}{{1001, created.Add(-time.Hour), 2}, {1, created, 1}} {
		r.seq, r.born = step.seq, step.born
		if err := r.flushNow(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.recv.purge(t.Context(), r.recv.freeSeq, r.recv.freeBorn)
		info, err := s.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs != step.want {
			t.Fatalf("freed up to %d of the stream of %s: %d frames are left, want %d", step.seq, step.born, info.State.Msgs, step.want)
		}
	}
}

func TestAFlushThatFailsMovesNothing(t *testing.T) {
	f := newFixture(t)
	r, _ := f.run(protocol.Checkpoint{}, 0)
	f.hello(protocol.Position{})
	f.blocks(0, 1)
	base := f.await("durable 2", func(s protocol.Signal) bool { return s.Durable.Seq == 2 }).Durable
	f.disk.set(func(d *disk) { d.failFlush = true })
	f.blocks(4096, 2)
	s := f.await("nak", func(s protocol.Signal) bool {
		if s.Durable.Seq > 2 {
			t.Fatalf("durable %d although the flush failed", s.Durable.Seq)
		}
		return s.Nak != nil
	})
	if c, _ := f.checkpoint(); c.Position != base || s.Nak.Session != f.session {
		t.Fatalf("checkpoint %+v, nak %+v", c.Position, s.Nak)
	}
	if p := r.Status().Problems; len(p) != 1 || p[0].Code != protocol.ProblemVolume {
		t.Fatalf("problems %+v", p)
	}
	// The kernel dropped what it could not write; the volume works again, and a later flush succeeds without it.
	f.disk.set(func(d *disk) { d.failFlush = false; clear(d.data[4096:8192]) })
	f.blocks(8192, 3) // of the session that ended
	time.Sleep(500 * time.Millisecond)
	if c, _ := f.checkpoint(); c.Position != base {
		t.Fatalf("the checkpoint moved to %+v without the lost write", c.Position)
	}
	f.hello(base)
	f.blocks(4096, 2)
	f.await("the new session", func(s protocol.Signal) bool {
		return s.Durable.Session == f.session && s.Durable.Seq == 2 && s.Nak == nil
	})
	if f.disk.data[4096] != 2 || f.disk.data[8192] != 0 {
		t.Fatalf("volume has %d and %d, want 2 and 0", f.disk.data[4096], f.disk.data[8192])
	}
}

func TestAWriteThatFailsIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	r, _ := f.run(protocol.Checkpoint{}, 0)
	f.hello(protocol.Position{})
	f.await("durable 1", func(s protocol.Signal) bool { return s.Durable.Seq == 1 })
	f.disk.set(func(d *disk) { d.failWrite = true })
	f.blocks(0, 1)
	deadline := time.Now().Add(5 * time.Second)
	for len(r.Status().Problems) == 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if c, _ := f.checkpoint(); c.Position.Seq != 1 || len(r.Status().Problems) != 1 {
		t.Fatalf("checkpoint %d, problems %+v", c.Position.Seq, r.Status().Problems)
	}
	f.disk.set(func(d *disk) { d.failWrite = false })
	f.await("durable 2", func(s protocol.Signal) bool { return s.Durable.Seq == 2 })
	if f.disk.data[0] != 1 || len(r.Status().Problems) != 0 {
		t.Fatalf("volume has %d, problems %+v", f.disk.data[0], r.Status().Problems)
	}
}

func TestAHeldPointStaysHeldThroughARestart(t *testing.T) {
	f := newFixture(t)
	_, stop := f.run(protocol.Checkpoint{}, 0)
	f.hello(protocol.Position{})
	f.blocks(0, 1)
	meta, err := json.Marshal(protocol.PointMark{ID: "p", Grade: protocol.GradeCrash})
	if err != nil {
		t.Fatal(err)
	}
	f.send(&protocol.Frame{Type: protocol.FramePoint, Meta: meta})
	f.blocks(0, 2)
	f.await("held", func(s protocol.Signal) bool { return s.Held == "p" })
	stop()
	c, revision := f.checkpoint()
	r, _ := f.run(c, revision)
	time.Sleep(500 * time.Millisecond)
	if held := r.Status().Held; held == nil || held.ID != "p" || held.Grade != protocol.GradeCrash || f.disk.data[0] != 1 {
		t.Fatalf("after the restart: held %+v, volume %d", held, f.disk.data[0])
	}
	r.Release([]string{"p"})
	f.await("durable 4", func(s protocol.Signal) bool { return s.Durable.Seq == 4 && s.Held == "" })
	if f.disk.data[0] != 2 {
		t.Fatal("the frame after the point was not applied")
	}
}

func TestSomebodyElsesCheckpointEndsTheReplica(t *testing.T) {
	f := newFixture(t)
	r := New(protocol.ReplicaAssignment{Server: "web-1", Generation: "g", Stream: protocol.StreamName("web-1", "g"), Disks: []protocol.ReplicaVolume{{Volume: "vol-1"}}},
		[]Target{f.disk}, protocol.Checkpoint{}, 0, Deps{Conn: f.nc, JS: f.js, KV: f.kv, Changed: func() {}, Logger: hclog.NewNullLogger()})
	if _, err := f.kv.Put(t.Context(), Key("web-1", "g"), []byte("{}")); err != nil {
		t.Fatal(err)
	}
	f.hello(protocol.Position{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := r.Run(ctx); !errors.Is(err, ErrConflict) {
		t.Fatalf("got %v, want ErrConflict", err)
	}
}
