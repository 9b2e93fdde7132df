package controller

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"rehost/protocol"
)

// events returns all events of the stream, in words.
func (w *world) events(server string) (out []string) {
	w.t.Helper()
	req := protocol.EventsRequest{Server: server}
	for {
		page, err := ask[protocol.EventsRequest, protocol.EventsReply](w, protocol.VerbEvents, req)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range page.Events {
			out = append(out, words(w.t, e))
		}
		if req.After = page.Next; !page.More {
			return out
		}
	}
}

func words(t *testing.T, e protocol.Event) string {
	t.Helper()
	var to protocol.Transition
	if err := json.Unmarshal(e.Data, &to); err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(strings.TrimPrefix(e.Type, protocol.EventTypePrefix) + " " + to.To)
}

// TestWhatHappensToAServerIsTold takes a server through its test, with a controller that is restarted on the way.
func TestWhatHappensToAServerIsTold(t *testing.T) {
	w := newWorld(t)
	got := w.listener()
	stop := w.controller(t.Context())
	w.apply(w.fleet())
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	stop()
	defer w.controller(t.Context())()
	wantSucceeded(t, w.awaitJob(w.start(protocol.JobTest).ID))
	want := []string{
		"server.lifecycle NOT_READY", "server.lifecycle READY_FOR_TEST", "server.lifecycle TESTING", "job.launch_start", "job.launch_end", "job.check_end",
		"server.lifecycle READY_FOR_CUTOVER",
	}
	w.await("the events of the test", func() bool { return slices.Contains(w.events("web-1"), want[len(want)-1]) })
	all := w.events("web-1")
	if !slices.Contains(all, "server.replication CONTINUOUS") {
		t.Errorf("its replication is not told: %q", all)
	}
	w.await("the webhook's events", func() bool { return len(got()) >= len(all) })
	for _, told := range [][]string{all, got()} {
		rest := told
		for _, event := range want {
			i := slices.Index(rest, event)
			if i < 0 {
				t.Fatalf("%s is not told in its place: %q", event, told)
			}
			rest = rest[i+1:]
		}
	}
}

// listener declares a webhook, and returns what it got of servers.
func (w *world) listener() func() []string {
	w.t.Helper()
	secret := filepath.Join(w.t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var e protocol.Event
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			w.t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if e.Subject != "" {
			got = append(got, words(w.t, e))
		}
	}))
	w.t.Cleanup(server.Close)
	w.webhooks = []Webhook{{Name: "test", URL: server.URL, SecretFile: secret}}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(got)
	}
}
