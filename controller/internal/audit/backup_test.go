package audit_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/audit"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// TestAnImportedLogKeepsItsPlaces has one whose oldest entries have aged, with a hole, and with a request that was being handled.
func TestAnImportedLogKeepsItsPlaces(t *testing.T) {
	server, err := broker.Listen(t.Context(), broker.ServerConfig{Dir: t.TempDir(), Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	js, err := jetstream.New(bustest.Connect(t, server, protocol.RoleController, "main"))
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.EnsureBuckets(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	request := func(verb string) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"entry":{"at":%q,"verb":%q}}`, old.Format(time.RFC3339Nano), verb))
	}
	in := audit.NewImport(js)
	for _, e := range []protocol.BackupEntry{
		{Audit: 7, Value: request("apply")}, {Audit: 8, Value: json.RawMessage(`{"of":7,"entry":{"result":"done"}}`)}, {Audit: 11, Value: request("backup")},
	} {
		if err := in.Add(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Add(t.Context(), protocol.BackupEntry{Audit: 9, Value: request("late")}); err == nil {
		t.Error("an entry out of order is taken")
	}
	if err := in.Note(t.Context(), protocol.AuditEntry{At: time.Now(), Verb: "restore"}); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(t.Context(), js, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	shown := func(req protocol.AuditRequest) (out []string) {
		page, err := log.Page(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Entries {
			out = append(out, fmt.Sprint(e.ID, " ", e.Verb, " ", e.Result))
		}
		return out
	}
	want := []string{"7 apply done", "9 lost unknown", "10 lost unknown", "11 backup unknown", "13 restore done"}
	if diff := cmp.Diff(want, shown(protocol.AuditRequest{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want[4:], shown(protocol.AuditRequest{Since: time.Now().Add(-time.Hour)})); diff != "" {
		t.Errorf("of the last hour (-want +got):\n%s", diff)
	}
}
