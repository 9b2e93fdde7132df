package stamp

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/protocol"
)

// ensureEvery is how often the controller looks whether the broker still has what it made there.
const ensureEvery = time.Second

// controller is the controller's end: it answers reports with orders, and makes streams and buckets again that are gone.
type controller struct {
	Conn *nats.Conn
	JS   jetstream.JetStream

	mu       sync.Mutex // guards the fields beneath
	disks    []protocol.ReplicaVolume
	point    *protocol.PointOrder
	released []string
	agent    protocol.AgentReport
	replica  protocol.ReplicaReport
	maxBytes int64 // of the stream
}

// streamBytes bounds the stream where no fault does.
const streamBytes = 256 << 20

func newController(tb testing.TB, c bus.Context, disks []*Disk) *controller {
	tb.Helper()
	nc, err := bus.Connect(tb.Context(), c, hclog.NewNullLogger())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	o := &controller{Conn: nc, JS: js, maxBytes: streamBytes}
	for i, d := range disks {
		o.disks = append(o.disks, protocol.ReplicaVolume{Volume: volumeID(i), SizeBytes: d.Bytes, Virgin: true})
	}
	if err := o.ensure(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	err = bus.Serve(tb.Context(), nc, hclog.NewNullLogger(), "controller",
		bus.Handle("agent", protocol.AgentReportSubject("*"), o.orderAgent), bus.Handle("replica", protocol.ReplicaReportSubject("*"), o.orderReplica))
	if err != nil {
		tb.Fatal(err)
	}
	go o.keep(tb.Context())
	return o
}

func (o *controller) orderAgent(_ context.Context, r protocol.AgentReport) (protocol.AgentOrder, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.agent = r
	return protocol.AgentOrder{Wanted: protocol.WantReplicate, Generation: generation, Point: o.point}, nil
}

func (o *controller) orderReplica(_ context.Context, r protocol.ReplicaReport) (protocol.ReplicaOrder, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replica = r
	return protocol.ReplicaOrder{Replicas: []protocol.ReplicaAssignment{{
		Server: serverName, Generation: generation, Stream: protocol.StreamName(serverName, generation), Disks: o.disks, Released: slices.Clone(o.released),
	}}}, nil
}

// keep makes again what the broker has lost, until ctx ends. A broker that does not answer is asked again.
func (o *controller) keep(ctx context.Context) {
	for ctx.Err() == nil {
		_ = o.ensure(ctx)
		select {
		case <-time.After(ensureEvery):
		case <-ctx.Done():
		}
	}
}

func (o *controller) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := o.JS.KeyValue(ctx, protocol.BucketCheckpoints); errors.Is(err, jetstream.ErrBucketNotFound) {
		if err := bus.EnsureBuckets(ctx, o.JS); err != nil {
			return err
		}
	}
	o.mu.Lock()
	limit := o.maxBytes
	o.mu.Unlock()
	s, err := o.JS.Stream(ctx, protocol.StreamName(serverName, generation))
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && s.CachedInfo().Config.MaxBytes != limit {
		return bus.EnsureStream(ctx, o.JS, serverName, generation, limit)
	}
	return err
}

// LimitStream bounds what the broker keeps of the stream; 0: what is usual.
func (o *controller) LimitStream(bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.maxBytes = bytes
	if bytes == 0 {
		o.maxBytes = streamBytes
	}
}

// reports returns the newest of both sides.
func (o *controller) reports() (a protocol.AgentReport, r protocol.ReplicaStatus) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.replica.Replicas) > 0 {
		r = o.replica.Replicas[0]
	}
	return o.agent, r
}

// Forget drops the reports so far, so that what is seen next is of now.
func (o *controller) Forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.agent, o.replica = protocol.AgentReport{}, protocol.ReplicaReport{}
}

// order asks for a point; empty: for none.
func (o *controller) order(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.point = nil
	if id != "" {
		o.point = &protocol.PointOrder{ID: id}
		_ = o.Conn.Publish(protocol.PokeSubject(serverName), nil) // else the next report asks
	}
}

// release lets the replica go on, and says whether it was held until now.
func (o *controller) release(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.released = append(o.released, id)
	_ = o.Conn.Publish(protocol.ReplicaPokeSubject(replicaName), nil) // else the next report asks
}

func (o *controller) isReleased(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.released, id)
}

// Stream is the server's stream as the broker has it now.
func (o *controller) Stream(ctx context.Context) (jetstream.Stream, error) {
	return o.JS.Stream(ctx, protocol.StreamName(serverName, generation))
}

// Republish puts a message into the stream again.
func (o *controller) Republish(ctx context.Context, m *jetstream.RawStreamMsg) error {
	_, err := o.JS.Publish(ctx, protocol.BlocksSubject(serverName), m.Data)
	return err
}

// Source returns the agent's newest report.
func (o *controller) Source() protocol.AgentReport {
	a, _ := o.reports()
	return a
}

// Tells says whether the agent or the replica reports a problem of this kind now.
func (o *controller) Tells(code protocol.ProblemCode) bool {
	a, r := o.reports()
	return slices.ContainsFunc(slices.Concat(a.Problems, r.Problems), func(p protocol.Problem) bool { return p.Code == code })
}
