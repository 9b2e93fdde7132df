package event

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/store"
	"rehost/internal/broker"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// process is a controller's part that tells events. stop ends it.
type process struct {
	*Publisher
	store *store.Store
	js    jetstream.JetStream
	stop  func()
}

// start runs the store and, if it is to tell, the publisher.
func start(t *testing.T, s *broker.Server, tells bool) *process {
	t.Helper()
	js, err := jetstream.New(bustest.Connect(t, s, protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Open(t.Context(), js, st, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	run := func(fn func(context.Context) error) {
		wg.Go(func() {
			if err := fn(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	run(st.Run)
	if err := st.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tells {
		run(p.Run)
	}
	out := &process{Publisher: p, store: st, js: js, stop: func() { cancel(); wg.Wait() }}
	t.Cleanup(out.stop)
	return out
}

// events waits until so many events are in the stream, and returns them.
func (p *process) events(t *testing.T, n int, req protocol.EventsRequest) []protocol.Event {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		reply, err := p.Page(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if len(reply.Events) >= n {
			return reply.Events
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d events came: %s", len(reply.Events), n, told(reply.Events))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func told(events []protocol.Event) string {
	var out []string
	for _, e := range events {
		var d struct{ From, To, Event, Detail string }
		_ = json.Unmarshal(e.Data, &d)
		out = append(out, fmt.Sprintf("%s %s %s", e.About(), strings.TrimPrefix(e.Type, protocol.EventTypePrefix), strings.TrimSpace(d.From+">"+d.To+d.Detail)))
	}
	return strings.Join(out, "\n")
}

func change(t *testing.T, p *process, server string, to protocol.Lifecycle) {
	t.Helper()
	if _, err := p.store.Servers.Update(t.Context(), server, func(r *protocol.Server) error { r.Lifecycle = to; return nil }); err != nil {
		t.Fatal(err)
	}
}

func logged(t *testing.T, p *process, entries ...protocol.JobEvent) {
	t.Helper()
	_, err := p.store.Jobs.Update(t.Context(), "test-1", func(j *protocol.Job) error {
		for i := range entries {
			entries[i].At = time.Now()
		}
		j.Log = append(j.Log, entries...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEventsOfAProcessThatDiedAreTold changes records while nobody tells, as a process does that is killed before it comes to it.
func TestEventsOfAProcessThatDiedAreTold(t *testing.T) {
	s := bustest.Start(t)
	one := start(t, s, true)
	if err := one.store.Servers.Create(t.Context(), "web-1", protocol.Server{Name: "web-1", Lifecycle: protocol.NotReady}); err != nil {
		t.Fatal(err)
	}
	if err := one.store.Jobs.Create(t.Context(), "test-1", protocol.Job{ID: "test-1", Kind: protocol.JobTest, Of: protocol.Selection{Wave: "first"}}); err != nil {
		t.Fatal(err)
	}
	one.events(t, 1, protocol.EventsRequest{})
	one.stop()

	dying := start(t, s, false)
	change(t, dying, "web-1", protocol.ReadyForTest)
	logged(t, dying, protocol.JobEvent{Event: protocol.EventJobStart, Detail: "begin"})
	change(t, dying, "web-1", protocol.Testing)
	logged(t, dying, protocol.JobEvent{Event: protocol.EventLaunchStart, Server: "web-1"}, protocol.JobEvent{Event: protocol.EventLaunchEnd, Server: "web-1"})
	change(t, dying, "web-1", protocol.ReadyForCutover)
	// One that is told and not noted is told again, and is in the stream once.
	r, err := dying.store.Servers.Get("web-1")
	if err != nil {
		t.Fatal(err)
	}
	untold, err := ofServer(r, r.Transitions[0].Number())
	if err != nil || len(untold) != 3 {
		t.Fatalf("%d transitions are untold, %v", len(untold), err)
	}
	if err := dying.publish(t.Context(), untold[0].Event); err != nil {
		t.Fatal(err)
	}
	dying.stop()

	two := start(t, s, true)
	logged(t, two, protocol.JobEvent{Event: protocol.EventJobEnd, Detail: "end"})
	got := told(two.events(t, 8, protocol.EventsRequest{}))
	want := `server.web-1 server.lifecycle >NOT_READY
server.web-1 server.lifecycle NOT_READY>READY_FOR_TEST
job.test-1 job.job_start >begin
server.web-1 server.lifecycle READY_FOR_TEST>TESTING
server.web-1 job.launch_start >
server.web-1 job.launch_end >
server.web-1 server.lifecycle TESTING>READY_FOR_CUTOVER
job.test-1 job.job_end >end`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := two.events(t, 3, protocol.EventsRequest{Server: "web-1", Types: []string{"job.launch_end", "server.*"}}); len(got) != 5 {
		t.Errorf("of a server, by type: got\n%s", told(got))
	}
	ids := map[string]bool{}
	for _, e := range two.events(t, 8, protocol.EventsRequest{}) {
		if ids[e.ID] || strings.Contains(e.ID, ".") || e.SpecVersion != "1.0" || e.Time.IsZero() {
			t.Errorf("got %+v", e)
		}
		ids[e.ID] = true
	}
}

func TestTypesOfEvents(t *testing.T) {
	for pattern, means := range map[string]bool{
		"*": true, "server.*": true, "job.*": true, "server.lifecycle": true, "job.job_end": true, "job.fence_fail": true,
		"": false, "job": false, "job.job_ended": false, "server.job_end": false, "rehost.job.job_end": false, "job.*.x": false, "s*": false,
	} {
		if got := protocol.CheckEventPattern(pattern); got != means {
			t.Errorf("%q: got %v", pattern, got)
		}
		e := protocol.Event{Type: protocol.JobEventType(protocol.EventJobEnd)}
		if got, want := e.Is(pattern), slices.Contains([]string{"*", "job.*", "job.job_end"}, pattern); means && got != want {
			t.Errorf("%q matches %s: got %v", pattern, e.Type, got)
		}
	}
}

func TestRequestsThatMakeNoSense(t *testing.T) {
	p := &Publisher{}
	for _, req := range []protocol.EventsRequest{{Types: []string{"job.job_ended"}}, {Server: "web.>"}, {Types: slices.Repeat([]string{"*"}, 51)}} {
		if _, err := p.Page(t.Context(), req); err == nil {
			t.Errorf("%+v is taken", req)
		}
	}
}
