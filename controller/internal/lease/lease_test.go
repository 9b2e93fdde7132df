package lease

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// lasts is short, so that the tests are. What they prove does not depend on it.
const lasts = 600 * time.Millisecond

// faulty is a bucket whose writes can fail.
type faulty struct {
	jetstream.KeyValue
	refuse atomic.Bool  // writes do not arrive
	lose   atomic.Int32 // so many answers are lost
}

var errCut = errors.New("the network is cut")

func (f *faulty) Update(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	if f.refuse.Load() {
		return 0, errCut
	}
	revision, err := f.KeyValue.Update(ctx, key, value, last)
	if err == nil && f.lose.Add(-1) >= 0 {
		return 0, context.DeadlineExceeded
	}
	return revision, err
}

// player is a candidate at work.
type player struct {
	bucket *faulty
	terms  chan *Term    // as they begin
	quiet  chan struct{} // closed when a term's work has ended
	stop   func()
	ended  chan error
}

func play(t *testing.T, server *broker.Server, name, fleet string) *player {
	t.Helper()
	js, err := jetstream.New(bustest.Connect(t, server, protocol.RoleController, name))
	if err != nil {
		t.Fatal(err)
	}
	kv, err := bus.EnsureLease(t.Context(), js)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{bucket: &faulty{KeyValue: kv}, terms: make(chan *Term, 8), quiet: make(chan struct{}, 8), ended: make(chan error, 1)}
	c := New(p.bucket, Config{Self: protocol.Lease{Holder: name, Host: "here", Process: name + "-process", Fleet: fleet}, Lasts: lasts, Logger: hclog.NewNullLogger()})
	ctx, stop := context.WithCancel(t.Context())
	p.stop = stop
	go func() {
		p.ended <- c.Run(ctx, func(ctx context.Context, term *Term) error {
			p.terms <- term
			<-ctx.Done()
			p.quiet <- struct{}{}
			return nil
		})
	}()
	return p
}

// leads waits until a player leads.
func (p *player) leads(t *testing.T) *Term {
	t.Helper()
	select {
	case term := <-p.terms:
		return term
	case err := <-p.ended:
		t.Fatalf("ended: %v", err)
	case <-time.After(20 * lasts):
		t.Fatal("does not lead")
	}
	return nil
}

func (p *player) waits(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-p.terms:
		t.Fatal("leads beside another one")
	case <-time.After(d):
	}
}

func TestOneLeads(t *testing.T) {
	server := bustest.Start(t)
	one := play(t, server, "one", "f")
	first := one.leads(t)
	two := play(t, server, "two", "f")
	two.waits(t, 3*lasts)
	if err := first.Check(); err != nil {
		t.Errorf("a leader that renews: %v", err)
	}
	one.stop()
	<-one.quiet
	second := two.leads(t)
	if second.Lease().Term != 2 || second.Lease().Holder != "two" {
		t.Errorf("got %+v", second.Lease())
	}
	if err := <-one.ended; err != nil {
		t.Error(err)
	}
	if err := first.Check(); !errors.Is(err, ErrOver) {
		t.Errorf("a leader that has ended: %v", err)
	}
}

// TestACutOffLeaderStopsFirst: by its own clock it leads no more before another one begins.
func TestACutOffLeaderStopsFirst(t *testing.T) {
	server := bustest.Start(t)
	one := play(t, server, "one", "f")
	first := one.leads(t)
	two := play(t, server, "two", "f")
	two.waits(t, lasts/2)
	one.bucket.refuse.Store(true)
	began := time.Now()
	second := two.leads(t)
	if err := first.Check(); !errors.Is(err, ErrOver) {
		t.Errorf("two lead: %v", err)
	}
	t.Logf("another one leads after %.2f of the time for which a lease lasts", float64(time.Since(began))/float64(lasts))
	<-one.quiet
	one.bucket.refuse.Store(false)
	one.waits(t, 2*lasts)
	two.stop()
	if third := one.leads(t); third.Lease().Term != second.Lease().Term+1 || third.Check() != nil {
		t.Errorf("got %+v, %v", third.Lease(), third.Check())
	}
}

func TestALostAnswerEndsNoTerm(t *testing.T) {
	server := bustest.Start(t)
	one := play(t, server, "one", "f")
	first := one.leads(t)
	one.bucket.lose.Store(1)
	one.waits(t, 3*lasts)
	if err := first.Check(); err != nil {
		t.Error(err)
	}
}

func TestKeysOfAnotherFleet(t *testing.T) {
	server := bustest.Start(t)
	play(t, server, "one", "f").leads(t)
	other := play(t, server, "two", "g")
	if err := <-other.ended; err == nil || !strings.Contains(err.Error(), "keys of another fleet") {
		t.Errorf("got %v", err)
	}
}

// TestWhenALeaseIsTaken looks at the decision alone.
func TestWhenALeaseIsTaken(t *testing.T) {
	s, mine, theirs := sight{}, protocol.Lease{Process: "me"}, protocol.Lease{Process: "other"}
	for _, step := range []struct {
		what     string
		there    protocol.Lease
		revision uint64
		now      time.Duration
		want     bool
	}{
		{"nobody has ever led", protocol.Lease{}, 0, 0, true},
		{"seen for the first time, however old it is", theirs, 7, 1000 * time.Second, false},
		{"not renewed for a while", theirs, 7, 1005 * time.Second, false},
		{"renewed", theirs, 8, 1006 * time.Second, false},
		{"not long enough since then", theirs, 8, 1011 * time.Second, false},
		{"long enough", theirs, 8, 1012 * time.Second, true},
		{"given up", protocol.Lease{Process: "other", Free: true}, 9, 1012 * time.Second, true},
		{"its own", mine, 10, 1012 * time.Second, true},
	} {
		if got := s.takes(step.there, step.revision, "me", step.now, 6*time.Second); got != step.want {
			t.Errorf("%s: %v", step.what, got)
		}
	}
}
