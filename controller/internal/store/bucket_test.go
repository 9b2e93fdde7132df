package store_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/store"
	"rehost/internal/bus/bustest"
	"rehost/internal/hint"
	"rehost/protocol"
)

// bucket opens the servers' bucket as a controller of that name would.
func bucket(t *testing.T, js jetstream.JetStream) *store.Bucket[protocol.Server] {
	t.Helper()
	b, err := store.NewBucket[protocol.Server](t.Context(), js, protocol.BucketServers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the mirror ended with %v", err)
		}
	})
	<-b.Ready()
	return b
}

func TestUpdatesOfTwoControllersAreAllKept(t *testing.T) {
	s := bustest.Start(t)
	js, err := jetstream.New(bustest.Connect(t, s, protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	one := bucket(t, js)
	if err := one.Create(ctx, "web-1", protocol.Server{Name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	if err := one.Create(ctx, "web-1", protocol.Server{Name: "web-1"}); !errors.Is(err, store.ErrExists) {
		t.Errorf("created twice: got %v", err)
	}
	two := bucket(t, js)
	const each = 40 // fewer than the conflicts after which an update gives up: one may lose against all of the other one's
	var wg sync.WaitGroup
	for _, b := range []*store.Bucket[protocol.Server]{one, two} {
		wg.Go(func() {
			for range each {
				if _, err := b.Update(ctx, "web-1", func(r *protocol.Server) error { r.Stream += "x"; return nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := one.Update(ctx, "web-1", func(r *protocol.Server) error { r.Stream += "y"; return nil })
	if err != nil || len(got.Stream) != 2*each+1 {
		t.Errorf("%d of %d updates are kept, %v", len(got.Stream)-1, 2*each, err)
	}
	refused := errors.New("no")
	if _, err := one.Update(ctx, "web-1", func(*protocol.Server) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a refused change: got %v", err)
	}
	if err := one.Delete(ctx, "web-1", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Get("web-1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted record: got %v", err)
	}
	if err := one.Create(ctx, "web-1", protocol.Server{Name: "web-1"}); err != nil {
		t.Errorf("created again: %v", err)
	}
}

// TestAFieldOfANewerVersionIsNotLost rewrites other records, and refuses the one that has it.
func TestAFieldOfANewerVersionIsNotLost(t *testing.T) {
	s := bustest.Start(t)
	js, err := jetstream.New(bustest.Connect(t, s, protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), protocol.BucketServers)
	if err != nil {
		t.Fatal(err)
	}
	const newer = `{"name":"web-1","orbit":{"height_km":400}}`
	for key, text := range map[string]string{"web-1": newer, "web-2": `{"name":"web-2"}`} {
		if _, err := kv.PutString(t.Context(), key, text); err != nil {
			t.Fatal(err)
		}
	}
	b := bucket(t, js)
	touch := func(r *protocol.Server) error { r.Stream = "x"; return nil }
	_, err = b.Update(t.Context(), "web-1", touch)
	if err == nil || !strings.Contains(err.Error(), "web-1 of "+protocol.BucketServers) || !strings.Contains(err.Error(), "orbit") || hint.Of(err) == "" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	if r, err := b.Get("web-1"); err != nil || r.Name != "web-1" {
		t.Errorf("it can be read: got %+v, %v", r, err)
	}
	if _, err := b.Update(t.Context(), "web-2", touch); err != nil {
		t.Error(err)
	}
	if e, err := kv.Get(t.Context(), "web-1"); err != nil || string(e.Value()) != newer {
		t.Errorf("the record is %s now, %v", e.Value(), err)
	}
}

func TestWhatIsDeletedIsNeitherListedNorFound(t *testing.T) {
	s := bustest.Start(t)
	js, err := jetstream.New(bustest.Connect(t, s, protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	b := bucket(t, js)
	for _, name := range []string{"web-2", "db-1", "web-1", "web-3", "xyz"} {
		if err := b.Create(t.Context(), name, protocol.Server{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), "web-3", nil); err != nil {
		t.Fatal(err)
	}
	names := func(all []protocol.Server, err error) (out []string) {
		if err != nil {
			t.Error(err)
		}
		for _, r := range all {
			out = append(out, r.Name)
		}
		return out
	}
	named := func(all ...string) func(*protocol.Server) bool {
		return func(r *protocol.Server) bool { return slices.Contains(all, r.Name) }
	}
	for _, tt := range []struct {
		what      string
		got, want []string
	}{
		{"list", names(b.List("")), []string{"db-1", "web-1", "web-2", "xyz"}},
		{"list web-", names(b.List("web-")), []string{"web-1", "web-2"}},
		{"list web-3", names(b.List("web-3")), nil},
		{"keys", b.Keys(), []string{"db-1", "web-1", "web-2", "xyz"}},
		{"find", names(b.Find(named("xyz", "web-1", "web-3"))), []string{"web-1", "xyz"}},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.what, tt.got, tt.want)
		}
	}
}
