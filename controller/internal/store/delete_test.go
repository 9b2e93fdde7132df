package store_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/store"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// TestWhatOthersHaveChangedIsNotDeleted, nor is anything written once the store may not.
func TestWhatOthersHaveChangedIsNotDeleted(t *testing.T) {
	js, err := jetstream.New(bustest.Connect(t, bustest.Start(t), protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := store.Open(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Servers.Create(t.Context(), "web-1", protocol.Server{Name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), protocol.BucketServers)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(t.Context(), "web-1", `{"name":"web-1","stream":"new"}`); err != nil {
		t.Fatal(err)
	}
	changed := errors.New("changed")
	old := func(r protocol.Server) error {
		if r.Stream != "" {
			return changed
		}
		return nil
	}
	if err := one.Servers.Delete(t.Context(), "web-1", old); !errors.Is(err, changed) {
		t.Errorf("deleted what it did not know: %v", err)
	}
	if err := one.Servers.Create(t.Context(), "web-3", protocol.Server{Name: "web-3"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(kv.Delete(t.Context(), "web-3"), one.Servers.Delete(t.Context(), "web-3", nil)); err != nil {
		t.Errorf("deleted what another one had deleted: %v", err)
	}
	over := errors.New("over")
	one.Only(func() error { return over })
	if err := one.Servers.Create(t.Context(), "web-2", protocol.Server{Name: "web-2"}); !errors.Is(err, over) {
		t.Errorf("created: %v", err)
	}
	if _, err := one.Servers.Update(t.Context(), "web-1", func(r *protocol.Server) error { r.Stream = "mine"; return nil }); !errors.Is(err, over) {
		t.Errorf("updated: %v", err)
	}
	if e, err := kv.Get(t.Context(), "web-1"); err != nil || string(e.Value()) != `{"name":"web-1","stream":"new"}` {
		t.Errorf("got %v, %v", e, err)
	}
	one.Only(func() error { return nil })
	if _, err := kv.PutString(t.Context(), "web-1", `{"name":"web-1","stream":"newer"}`); err != nil {
		t.Fatal(err)
	}
	if err := one.Servers.Delete(t.Context(), "web-1", func(protocol.Server) error { return nil }); err != nil {
		t.Errorf("what others have changed, and may go all the same: %v", err)
	}
	if _, err := kv.Get(t.Context(), "web-1"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}
