package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// audit has a page that is asked for further, a refusal, and a request whose result nobody knows.
func (f *fake) audit(_ context.Context, req protocol.AuditRequest) (protocol.AuditReply, error) {
	all := []protocol.AuditEntry{
		{ID: 1, At: epoch, Operator: "ada", Verb: "apply", Servers: []string{"db-1", "web-1", "web-2", "web-3"}, Request: json.RawMessage(`{"fleet":"81 bytes, sha256 0a"}`), Result: protocol.AuditDone, Took: 12 * time.Millisecond},
		{ID: 3, At: epoch.Add(time.Hour), Operator: "ben", Verb: "start", Servers: []string{"web-1"}, Request: json.RawMessage(`{"kind":"cutover"}`), Reason: "window, of tonight", Result: protocol.AuditRefused, Problem: &protocol.Problem{Code: protocol.ProblemNotAllowed, Message: "web-1: no test of it has passed"}},
		{ID: 5, At: epoch.Add(2 * time.Hour), Verb: "enrol", Request: json.RawMessage(`{"name":"web-1"}`), Result: protocol.AuditUnknown},
	}
	reply := protocol.AuditReply{Entries: []protocol.AuditEntry{}, Next: 5}
	for _, e := range all {
		if e.ID <= req.After || e.At.Before(req.Since) || req.Server != "" && e.ID == 5 {
			continue
		}
		if reply.Entries = append(reply.Entries, e); len(reply.Entries) == 2 && e.ID != 5 {
			reply.Next, reply.More = e.ID, true
			break
		}
	}
	return reply, nil
}

// TestAnOperatorOfItsOwnIsTold makes an identity from the keys of a running bus, and looks at who its controller takes it for.
func TestAnOperatorOfItsOwnIsTold(t *testing.T) {
	data := t.TempDir()
	server := bustest.StartIn(t, filepath.Join(data, "bus"), "127.0.0.1:0")
	if err := bus.SaveContext(filepath.Join(data, "operator.json"), bustest.Context(t, server, protocol.RoleOperator, "local")); err != nil {
		t.Fatal(err)
	}
	sender := make(chan string, 1)
	endpoint := bus.Handle("version", protocol.OperatorSubject(protocol.VerbVersion, "*"), func(ctx context.Context, _ protocol.VersionRequest) (protocol.VersionReply, error) {
		sender <- bus.Sender(ctx) + " because " + bus.Reason(ctx)
		return protocol.VersionReply{}, nil
	})
	if err := bus.Serve(t.Context(), bustest.Connect(t, server, protocol.RoleController, "main"), hclog.NewNullLogger(), "controller", endpoint); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "ada.json")
	env := Env{Stdin: strings.NewReader(""), Stdout: t.Output(), Stderr: t.Output(), Getenv: func(string) string { return "" }}
	if code := Main(t.Context(), env, []string{"admin", "operator", "ada", "--data-dir", data, "--out", out}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the context is %v, %v", info, err)
	}
	if code := Main(t.Context(), env, []string{"version", "--controller", "--context", out, "--reason", "to see"}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	select {
	case got := <-sender:
		if got != "ada because to see" {
			t.Errorf("the controller was asked by %s", got)
		}
	default:
		t.Error("the controller was not asked")
	}
	if code := Main(t.Context(), env, []string{"admin", "operator", "ada", "--data-dir", t.TempDir(), "--out", out}); code != exitFailure {
		t.Errorf("without keys: exit code %d", code)
	}
}
