package store

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// deafKV is a bucket of a bus that dies in the first update, before or after it has written it.
type deafKV struct {
	jetstream.KeyValue
	writes bool
	died   bool
}

func (kv *deafKV) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	if kv.died {
		return kv.KeyValue.Update(ctx, key, value, revision)
	}
	kv.died = true
	if kv.writes {
		if _, err := kv.KeyValue.Update(ctx, key, value, revision); err != nil {
			return 0, err
		}
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// The caller would wait for hours, and what it writes must be there once.
func TestAnUpdateOutlivesAnAnswerThatIsLost(t *testing.T) {
	js, err := jetstream.New(bustest.Connect(t, bustest.Start(t), protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), protocol.BucketServers)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	for name, writes := range map[string]bool{"not-written": false, "written": true} {
		b := newBucket[protocol.Server](protocol.BucketServers, &deafKV{KeyValue: kv, writes: writes})
		if err := b.Create(ctx, name, protocol.Server{Name: name}); err != nil {
			t.Fatal(err)
		}
		b.wait = time.Second
		got, err := b.Update(ctx, name, func(r *protocol.Server) error { r.Stream += "x"; return nil })
		if err != nil || got.Stream != "x" {
			t.Errorf("%s: got %q, %v", name, got.Stream, err)
		}
	}
}
