package broker_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/hint"
	"rehost/protocol"
)

func TestAgentMayPublishItsOwnBlocksAndNothingElse(t *testing.T) {
	s := bustest.Start(t)
	controller := bustest.Connect(t, s, protocol.RoleController, "main")
	js, err := jetstream.New(controller)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []string{"web-1", "web-2"} {
		if err := bus.EnsureStream(t.Context(), js, server, "g1", 0); err != nil {
			t.Fatal(err)
		}
	}
	agent := bustest.Connect(t, s, protocol.RoleAgent, "web-1")
	agentJS, err := jetstream.New(agent)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := agentJS.Publish(t.Context(), protocol.BlocksSubject("web-1"), []byte("x")); err != nil {
		t.Errorf("publish own blocks: %v", err)
	}
	err = bus.Serve(t.Context(), bustest.Connect(t, s, protocol.RoleController, "desk"), hclog.NewNullLogger(), "desk",
		bus.HandleLater("barrier", protocol.BarrierSubject("*"), func(_ context.Context, _ protocol.BarrierRequest, reply func(protocol.BarrierReply)) {
			go reply(protocol.BarrierReply{})
		}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bus.Request[protocol.BarrierRequest, protocol.BarrierReply](t.Context(), agent, protocol.BarrierSubject("web-1"), protocol.BarrierRequest{}); err != nil {
		t.Errorf("come to a barrier: %v", err)
	}
	for _, subject := range []string{
		protocol.BlocksSubject("web-2"), protocol.AgentReportSubject("web-2"), protocol.BarrierSubject("web-2"), protocol.OperatorSubject(protocol.VerbApply, "web-1"),
		"$JS.API.STREAM.DELETE." + protocol.StreamName("web-1", "g1"), "$KV." + protocol.BucketServers + ".web-1",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if _, err := agent.RequestWithContext(ctx, subject, []byte("x")); err == nil {
			t.Errorf("an agent got an answer on %s", subject)
		}
		cancel()
	}
	if last := agent.LastError(); !errors.Is(last, nats.ErrPermissionViolation) {
		t.Errorf("got last error %v, want a permissions violation", last)
	}
	for _, server := range []string{"web-1", "web-2"} {
		stream, err := js.Stream(t.Context(), protocol.StreamName(server, "g1"))
		if err != nil {
			t.Fatalf("the stream of %s is gone: %v", server, err)
		}
		if got, want := stream.CachedInfo().State.Msgs, map[string]uint64{"web-1": 1}[server]; got != want {
			t.Errorf("stream of %s holds %d messages, want %d", server, got, want)
		}
	}
}

// The API of JetStream is one subject tree for all streams, and a bucket is a stream: what a replication
// server may do to block streams it must not be able to do to records.
func TestReplicationServerMayNotTouchRecords(t *testing.T) {
	s := bustest.Start(t)
	admin, err := jetstream.New(bustest.Connect(t, s, protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.EnsureStream(t.Context(), admin, "web-1", "g1", 0); err != nil {
		t.Fatal(err)
	}
	servers, err := admin.KeyValue(t.Context(), protocol.BucketServers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := servers.Create(t.Context(), "web-1", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	nc := bustest.Connect(t, s, protocol.RoleReplicaServer, "rs-1")
	for _, subject := range []string{
		"$JS.API.STREAM.PURGE.KV_" + protocol.BucketServers, "$JS.API.STREAM.PURGE.KV_" + protocol.BucketCheckpoints,
		"$JS.API.STREAM.MSG.GET.KV_" + protocol.BucketServers, "$JS.API.STREAM.INFO.KV_" + protocol.BucketServers,
		"$JS.API.DIRECT.GET.KV_" + protocol.BucketServers, "$JS.API.DIRECT.GET.KV_" + protocol.BucketServers + ".$KV." + protocol.BucketServers + ".web-1",
		"$JS.API.CONSUMER.CREATE.KV_" + protocol.BucketServers, "$JS.API.CONSUMER.CREATE.KV_" + protocol.BucketServers + ".c",
		"$JS.API.CONSUMER.DURABLE.CREATE.KV_" + protocol.BucketServers + ".c", "$KV." + protocol.BucketServers + ".web-1",
		"$JS.API.STREAM.DELETE." + protocol.StreamName("web-1", "g1"),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if msg, err := nc.RequestWithContext(ctx, subject, []byte("{}")); err == nil {
			t.Errorf("a replication server got an answer on %s: %s", subject, msg.Data)
		}
		cancel()
	}
	for _, subject := range []string{
		"$JS.API.STREAM.PURGE." + protocol.StreamName("web-1", "g1"), "$JS.API.STREAM.INFO.KV_" + protocol.BucketCheckpoints,
	} {
		if _, err := nc.RequestWithContext(t.Context(), subject, []byte("{}")); err != nil {
			t.Errorf("a replication server is refused %s: %v", subject, err)
		}
	}
	if entry, err := servers.Get(t.Context(), "web-1"); err != nil || string(entry.Value()) != "secret" {
		t.Errorf("the record is %v, %v", entry, err)
	}
}

func TestEnrolmentGivesTheIdentityThatTheTokenIsFor(t *testing.T) {
	s := bustest.Start(t)
	controller := bustest.Connect(t, s, protocol.RoleController, "main")
	serveEnrol(t, s, controller)
	token, _, err := s.Authority().Token(protocol.RoleAgent, "web-1", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	id, err := bus.Enrol(t.Context(), s.Bus(), token, protocol.RoleAgent, "web-1")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "identity.json")
	if err := bus.SaveIdentity(path, id); err != nil {
		t.Fatal(err)
	}
	if id, err = bus.LoadIdentity(path); err != nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(t.Context(), bus.Context{Bus: s.Bus(), Identity: id}, hclog.NewNullLogger())
	if err != nil {
		t.Fatalf("connect with the enrolled identity: %v", err)
	}
	nc.Close()
	for _, other := range []struct{ role, name string }{{protocol.RoleAgent, "web-2"}, {protocol.RoleReplicaServer, "web-1"}} {
		if _, err := bus.Enrol(t.Context(), s.Bus(), token, other.role, other.name); err == nil {
			t.Errorf("the token of agent/web-1 enrolled %s/%s", other.role, other.name)
		}
	}
}

func serveEnrol(t *testing.T, s *broker.Server, nc *nats.Conn) {
	t.Helper()
	handler := func(_ context.Context, req protocol.EnrolRequest) (protocol.EnrolReply, error) {
		signed, _, err := s.Authority().Enrol(req)
		return protocol.EnrolReply{JWT: signed}, err
	}
	if err := bus.Serve(t.Context(), nc, hclog.NewNullLogger(), "enrol", bus.Handle("enrol", protocol.EnrolSubject, handler)); err != nil {
		t.Fatal(err)
	}
}

func TestAProblemTravelsWithItsHint(t *testing.T) {
	s := bustest.Start(t)
	controller := bustest.Connect(t, s, protocol.RoleController, "main")
	handler := func(context.Context, protocol.StatusRequest) (protocol.Status, error) {
		return protocol.Status{}, &protocol.Problem{Code: protocol.ProblemUnknown, Message: "no server web-9", Hint: "rehost status lists them"}
	}
	endpoint := bus.Handle("status", protocol.OperatorSubject(protocol.VerbStatus, "*"), handler)
	if err := bus.Serve(t.Context(), controller, hclog.NewNullLogger(), "operator", endpoint); err != nil {
		t.Fatal(err)
	}
	operator := bustest.Connect(t, s, protocol.RoleOperator, "me")
	_, err := bus.Request[protocol.StatusRequest, protocol.Status](t.Context(), operator, protocol.OperatorSubject(protocol.VerbStatus, "me"), protocol.StatusRequest{})
	p, ok := errors.AsType[*protocol.Problem](err)
	if !ok || p.Code != protocol.ProblemUnknown || hint.Of(err) != "rehost status lists them" {
		t.Errorf("got %v with hint %q, want the problem as sent", err, hint.Of(err))
	}
}

func TestARequestWithoutAControllerSaysSo(t *testing.T) {
	s := bustest.Start(t)
	operator := bustest.Connect(t, s, protocol.RoleOperator, "me")
	_, err := bus.Request[protocol.StatusRequest, protocol.Status](t.Context(), operator, protocol.OperatorSubject(protocol.VerbStatus, "me"), protocol.StatusRequest{})
	if !errors.Is(err, nats.ErrNoResponders) || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}

func TestIdentitiesAndRecordsOutliveTheServer(t *testing.T) {
	dir := t.TempDir()
	s := bustest.StartIn(t, dir, "127.0.0.1:0")
	c := bustest.Context(t, s, protocol.RoleController, "main")
	put(t, c, "web-1")
	s.Close()
	again := bustest.StartIn(t, dir, "127.0.0.1:0")
	c.Bus.Servers = again.Bus().Servers // the port is new, the authority is not
	if got := get(t, c, "web-1"); got != "record" {
		t.Errorf("got %q after the restart", got)
	}
}

func bucket(t *testing.T, c bus.Context) jetstream.KeyValue {
	t.Helper()
	nc, err := bus.Connect(t.Context(), c, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), protocol.BucketServers)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t *testing.T, c bus.Context, key string) {
	t.Helper()
	if _, err := bucket(t, c).Create(t.Context(), key, []byte("record")); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, c bus.Context, key string) string {
	t.Helper()
	entry, err := bucket(t, c).Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(entry.Value())
}

func TestAPortInUseIsOneClearError(t *testing.T) {
	s := bustest.Start(t)
	address := strings.TrimPrefix(s.Bus().Servers[0], "tls://")
	_, err := broker.Listen(t.Context(), broker.ServerConfig{Dir: t.TempDir(), Address: address})
	if err == nil || !strings.Contains(err.Error(), "in use") || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}

// A stream's limit is reserved as a whole when it is made, although it is hardly ever filled.
func TestALargeFleetHasAStreamForEachServer(t *testing.T) {
	js, err := jetstream.New(bustest.Connect(t, bustest.Start(t), protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	const longest = int64(1) << 40 // that a configuration may give a stream
	for i := range 100 {
		size := int64(0)
		if i == 0 {
			size = longest
		}
		if err := bus.EnsureStream(t.Context(), js, fmt.Sprintf("srv-%d", i), "g1", size); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
	}
}

func TestAFullStreamRefusesInsteadOfForgetting(t *testing.T) {
	s := bustest.Start(t)
	nc := bustest.Connect(t, s, protocol.RoleController, "main")
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.EnsureStream(t.Context(), js, "web-1", "g1", 64<<10); err != nil {
		t.Fatal(err)
	}
	var last error
	for range 10 {
		_, last = js.Publish(t.Context(), protocol.BlocksSubject("web-1"), make([]byte, 10<<10))
	}
	api, ok := errors.AsType[*jetstream.APIError](last)
	if !ok || api.ErrorCode != bus.CodeStreamFull {
		t.Errorf("got %v, want error %d", last, bus.CodeStreamFull)
	}
}

// BenchmarkPublishFrames measures frames of 1 MiB through TLS into the stream of a synced server.
func BenchmarkPublishFrames(b *testing.B) {
	s := bustest.Start(b)
	nc := bustest.Connect(b, s, protocol.RoleController, "main")
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(64))
	if err != nil {
		b.Fatal(err)
	}
	if err := bus.EnsureStream(b.Context(), js, "web-1", "g1", 64<<30); err != nil {
		b.Fatal(err)
	}
	frame := make([]byte, 1<<20)
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		if _, err := js.PublishAsync(protocol.BlocksSubject("web-1"), frame); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

// TestRequestsAtOnceAreWaitedFor lets the service end while one is being handled.
func TestRequestsAtOnceAreWaitedFor(t *testing.T) {
	s := bustest.Start(t)
	began, goOn, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	endpoint := bus.Handle("slow", protocol.SnapshotSubject("*"), func(context.Context, struct{}) (struct{}, error) {
		close(began)
		<-goOn
		close(ended)
		return struct{}{}, nil
	}).AtOnce(2)
	ctx, cancel := context.WithCancel(t.Context())
	if err := bus.Serve(ctx, bustest.Connect(t, s, protocol.RoleController, "main"), hclog.NewNullLogger(), "slow", endpoint); err != nil {
		t.Fatal(err)
	}
	if err := bustest.Connect(t, s, protocol.RoleController, "asker").Publish(protocol.SnapshotSubject("web-1"), nil); err != nil {
		t.Fatal(err)
	}
	<-began
	cancel()
	waited := make(chan struct{})
	go func() { endpoint.Wait(); close(waited) }() // ends with the request
	select {
	case <-waited:
		t.Fatal("nobody waited for the request")
	default:
	}
	close(goOn)
	<-waited
	select {
	case <-ended:
	default:
		t.Error("the wait was over before the request")
	}
}
