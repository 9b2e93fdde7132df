package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/store"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// receiver is a web server that verifies and keeps what it gets, and answers as told.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	keys   [][]byte

	mu     sync.Mutex
	answer func(e protocol.Event, attempt int) int // status; 0: none, until the client has given up
	tries  map[string]int
	got    []string // ids that were taken, in order
}

func newReceiver(t *testing.T, keys ...[]byte) *receiver {
	t.Helper()
	r := &receiver{t: t, keys: keys, tries: map[string]int{}, answer: func(protocol.Event, int) int { return http.StatusOK }}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender ended
	}
	var e protocol.Event
	if err := json.Unmarshal(body, &e); err != nil {
		r.t.Errorf("no event: %s", body)
	}
	r.verify(req, body)
	if got := req.Header.Get("Content-Type"); got != "application/cloudevents+json; charset=utf-8" || req.Header.Get("webhook-id") != e.ID {
		r.t.Errorf("headers %v of event %s", req.Header, e.ID)
	}
	r.mu.Lock()
	r.tries[e.ID]++
	status := r.answer(e, r.tries[e.ID])
	if status == http.StatusOK {
		r.got = append(r.got, e.ID)
	}
	r.mu.Unlock()
	if status == 0 {
		<-req.Context().Done()
		return
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

// verify is written after the specification of Standard Webhooks, and uses nothing of the sender's: the base64 of the HMAC-SHA256 of id, time
// and body, with full stops between them, is one of the signatures of version 1.
func (r *receiver) verify(req *http.Request, body []byte) {
	stamp, err := strconv.ParseInt(req.Header.Get("webhook-timestamp"), 10, 64)
	if age := time.Since(time.Unix(stamp, 0)); err != nil || age > 5*time.Minute || age < -5*time.Minute {
		r.t.Errorf("timestamp %q", req.Header.Get("webhook-timestamp"))
	}
	for _, key := range r.keys {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(req.Header.Get("webhook-id") + "." + req.Header.Get("webhook-timestamp") + "."))
		mac.Write(body)
		want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
		if !slices.Contains(strings.Fields(req.Header.Get("webhook-signature")), want) {
			r.t.Errorf("signatures %q, want %s among them", req.Header.Get("webhook-signature"), want)
		}
	}
}

func (r *receiver) set(answer func(e protocol.Event, attempt int) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) taken(server string) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range r.got {
		if strings.HasPrefix(id, server) {
			out = append(out, id)
		}
	}
	return out
}

func (r *receiver) tried(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tries[id]
}

// scene is a bus with a stream of events, and a webhook on it.
type scene struct {
	t       *testing.T
	bus     *broker.Server
	js      jetstream.JetStream
	cfg     Config
	to      *receiver
	records *store.Bucket[protocol.Webhook]
}

func newScene(t *testing.T) *scene {
	t.Helper()
	keys := [][]byte{[]byte("a secret of twenty-four!"), []byte("the next one, and longer than that")}
	secret := filepath.Join(t.TempDir(), "secret")
	text := "whsec_" + base64.StdEncoding.EncodeToString(keys[0]) + "\n" + base64.StdEncoding.EncodeToString(keys[1]) + "\n"
	if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &scene{t: t, bus: bustest.Start(t), to: newReceiver(t, keys...)}
	s.cfg = Config{Name: "ops", URL: s.to.server.URL, SecretFile: secret, Retry: 10 * time.Millisecond}
	var err error
	if s.js, err = jetstream.New(bustest.Connect(t, s.bus, protocol.RoleController, "main")); err != nil {
		t.Fatal(err)
	}
	if _, err := bus.EnsureEvents(t.Context(), s.js); err != nil {
		t.Fatal(err)
	}
	return s
}

// run delivers until stop.
func (s *scene) run() (stop func()) {
	s.t.Helper()
	st, err := store.Open(s.t.Context(), s.js)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := st.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	if err := st.WaitReady(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.records = st.Webhooks
	hooks := New([]Config{s.cfg}, s.js, st, hclog.New(&hclog.LoggerOptions{Output: s.t.Output(), DisableTime: true}))
	wg.Go(func() {
		if err := hooks.Run(ctx); err != nil {
			s.t.Error(err)
		}
	})
	s.await("the webhook's record", func() bool { _, err := st.Webhooks.Get("ops"); return err == nil })
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			wg.Wait()
		}
	}
	s.t.Cleanup(stop)
	return stop
}

func (s *scene) record() protocol.Webhook {
	s.t.Helper()
	r, err := s.records.Get("ops")
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *scene) await(what string, fn func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !fn(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s did not come", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// happen puts an event of a server into the stream.
func (s *scene) happen(server string, number int, at time.Time) string {
	s.t.Helper()
	e := protocol.Event{SpecVersion: "1.0", ID: fmt.Sprintf("%s-%d", server, number), Source: "/rehost/servers/" + server, Type: protocol.EventLifecycle, Subject: server, Time: at, Data: json.RawMessage("{}")}
	text, err := json.Marshal(e)
	if err == nil {
		_, err = s.js.Publish(s.t.Context(), protocol.EventSubject(e), text)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return e.ID
}

func ids(server string, to int) (out []string) {
	for i := range to {
		out = append(out, fmt.Sprintf("%s-%d", server, i+1))
	}
	return out
}

func (s *scene) wantTaken(server string, n int) {
	s.t.Helper()
	s.await(fmt.Sprintf("%d events of %s", n, server), func() bool { return len(s.to.taken(server)) >= n })
	if got := s.to.taken(server); !slices.Equal(got, ids(server, n)) {
		s.t.Errorf("of %s came %v", server, got)
	}
}

func TestRefusalsHoldOneServerOnlyAndAreTriedAgain(t *testing.T) {
	s := newScene(t)
	s.happen("web", 0, time.Now()) // before the webhook was declared
	defer s.run()()
	s.happen("web", 0, time.Now().Add(-time.Hour)) // the same, and told late
	s.to.set(func(e protocol.Event, attempt int) int {
		switch {
		case e.ID == "bad-1" && attempt == 1:
			return http.StatusFound // is not followed
		case e.ID == "bad-1" && attempt < 5:
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	for i := range 3 {
		s.happen("bad", i+1, time.Now())
		s.happen("good", i+1, time.Now())
	}
	s.wantTaken("good", 3)
	s.wantTaken("bad", 3)
	if got := s.to.tried("bad-1"); got != 5 {
		t.Errorf("the refused one was tried %d times", got)
	}
	s.await("the record", func() bool { return s.record().Delivered == 6 })
	if r := s.record(); len(r.Held) != 0 || !r.Failing.IsZero() || r.Error != "" || r.Dead != 0 || len(s.to.taken("web")) != 0 {
		t.Errorf("got %+v, and %v", r, s.to.taken("web"))
	}
}

// TestARestartKeepsWhatIsNotDelivered ends the process while one server's events are refused and another's hang.
func TestARestartKeepsWhatIsNotDelivered(t *testing.T) {
	s := newScene(t)
	stop := s.run()
	s.to.set(func(e protocol.Event, _ int) int {
		switch e.Subject {
		case "bad":
			return http.StatusServiceUnavailable
		case "hangs":
			return 0
		}
		return http.StatusOK
	})
	for i := range 4 {
		for _, server := range []string{"hangs", "bad", "good"} {
			s.happen(server, i+1, time.Now())
		}
	}
	s.wantTaken("good", 4)
	s.await("an attempt of each", func() bool { return s.to.tried("bad-1") > 1 && s.to.tried("hangs-1") == 1 })
	stop()
	s.happen("bad", 5, time.Now()) // while nobody delivers
	s.to.set(func(protocol.Event, int) int { return http.StatusOK })
	defer s.run()()
	s.wantTaken("bad", 5)
	s.wantTaken("hangs", 4)
	if got := s.to.taken("good"); !slices.Equal(got, ids("good", 4)) {
		t.Errorf("of the delivered ones came %v", got)
	}
}

func TestADeadLetterIsToldAndTheNextOneComes(t *testing.T) {
	s := newScene(t)
	s.run()()
	s.cfg.Events = []string{"server.*"}
	// An event that waited for a day: the webhook was declared before it.
	if _, err := s.records.Update(t.Context(), "ops", func(r *protocol.Webhook) error { r.Since = time.Now().Add(-100 * time.Hour); return nil }); err != nil {
		t.Fatal(err)
	}
	defer s.run()()
	s.to.set(func(e protocol.Event, _ int) int {
		if e.ID == "web-1" {
			return http.StatusGone
		}
		return http.StatusOK
	})
	s.happen("web", 1, time.Now().Add(-25*time.Hour))
	s.happen("web", 2, time.Now())
	s.await("the next one", func() bool { return len(s.to.taken("web")) > 0 })
	s.await("the dead letter", func() bool { return s.record().Dead == 1 })
	r := s.record()
	if len(r.Letters) != 1 || r.Letters[0].ID != "web-1" || r.Letters[0].Attempts != minAttempts || !strings.Contains(r.Letters[0].Error, "410") {
		t.Errorf("got %+v", r.Letters)
	}
	if got := s.to.taken("web"); !slices.Equal(got, []string{"web-2"}) {
		t.Errorf("came %v", got)
	}
}

// TestAReceiverThatIsAwayIsWaitedFor closes the receiver, and opens it at its address again.
func TestAReceiverThatIsAwayIsWaitedFor(t *testing.T) {
	s := newScene(t)
	address := s.to.server.Listener.Addr().String()
	s.to.server.Close()
	defer s.run()()
	for i := range 3 {
		s.happen("web", i+1, time.Now())
	}
	s.await("a failure", func() bool { return !s.record().Failing.IsZero() })
	if r := s.record(); len(r.Held) == 0 || !strings.Contains(r.Error, "refused") || strings.Contains(r.Error, "http://") {
		t.Errorf("got %+v", r)
	}
	s.to.server = httptest.NewUnstartedServer(s.to)
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.to.server.Listener.Close() // another one's place
	s.to.server.Listener = listener
	s.to.server.Start()
	t.Cleanup(s.to.server.Close)
	s.wantTaken("web", 3)
	s.await("the record", func() bool { r := s.record(); return r.Failing.IsZero() && r.Delivered == 3 })
}

func TestSecretsThatAreNone(t *testing.T) {
	for name, text := range map[string]string{"empty": "\n", "short": "whsec_c2hvcnQ=\n", "no base64": strings.Repeat("?", 40)} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (Config{SecretFile: path}).Check(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := (Config{SecretFile: "/nowhere/secret"}).Check(); err == nil {
		t.Error("a missing file is taken")
	}
}
