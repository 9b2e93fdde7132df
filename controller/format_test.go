package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus/bustest"
	"rehost/internal/hint"
	"rehost/protocol"
)

// TestRecordsOfANewerVersionAreLeftAlone has a newer controller's bucket, and its audit log: this one does not start on either.
func TestRecordsOfANewerVersionAreLeftAlone(t *testing.T) {
	for _, name := range []string{"KV_" + protocol.BucketJobs, protocol.AuditStream} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.controller(t.Context())()
			js, err := jetstream.New(bustest.Connect(t, w.bus, protocol.RoleController, "newer"))
			if err != nil {
				t.Fatal(err)
			}
			stream, err := js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			cfg := stream.CachedInfo().Config
			if cfg.Metadata["rehost.format"] != fmt.Sprint(protocol.RecordFormat) {
				t.Errorf("it says of itself %v", cfg.Metadata)
			}
			cfg.Metadata["rehost.format"], cfg.Metadata["rehost.version"] = fmt.Sprint(protocol.RecordFormat+1), "v99.0.0"
			if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
				t.Fatal(err)
			}
			external := bustest.Context(t, w.bus, protocol.RoleController, "main")
			err = Run(t.Context(), Config{External: &external, Alone: true}, Deps{Logger: hclog.NewNullLogger(), Cloud: w.cloud})
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "v99.0.0") || !strings.Contains(hint.Of(err), "newer") {
				t.Fatalf("got %v, hint %q", err, hint.Of(err))
			}
			after, err := js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			if got := after.CachedInfo().Config.Metadata["rehost.format"]; got != fmt.Sprint(protocol.RecordFormat+1) {
				t.Errorf("the format was changed to %s", got)
			}
		})
	}
}
