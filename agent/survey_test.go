package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/protocol"
)

// A survey is made once for each order, anew when it is old, sooner when it failed, and never two at a time.
func TestASurveyIsMadeWhenItIsDue(t *testing.T) {
	var mu sync.Mutex
	looks, fail := 0, false
	s := &surveyor{server: "web-1", log: hclog.NewNullLogger(), changed: func() {}, look: func(context.Context, protocol.ConversionSettings) (protocol.Survey, error) {
		mu.Lock()
		defer mu.Unlock()
		looks++
		if fail {
			return protocol.Survey{}, errors.New("it took too long")
		}
		return protocol.Survey{At: time.Now()}, nil
	}}
	order := protocol.SurveyOrder{Options: protocol.ConversionSettings{Network: "dhcp"}}
	want := func(what string, order *protocol.SurveyOrder, looked int) {
		t.Helper()
		var tasks sync.WaitGroup
		s.want(t.Context(), &tasks, order)
		s.want(t.Context(), &tasks, order) // while it is being made, or right after
		tasks.Wait()
		if looks != looked {
			t.Errorf("%s: %d looks, want %d", what, looks, looked)
		}
	}
	want("not ordered", nil, 0)
	if id, got := s.state(); got != nil || id != "" {
		t.Error("there is a survey that nobody ordered")
	}
	want("ordered", &order, 1)
	want("ordered still", &order, 1)
	order.Options.Network = "keep"
	want("other settings", &order, 2)
	first, got := s.state()
	if got == nil || first == "" || !got.Order.Equal(order) || got.Problem != nil {
		t.Errorf("got %+v", got)
	}
	s.newest.At = time.Now().Add(-surveyAge - time.Second)
	fail = true
	want("old", &order, 3)
	if id, got := s.state(); id == first || got.Problem == nil || !got.Order.Equal(order) {
		t.Errorf("a failed one: got %+v", got)
	}
	want("just failed", &order, 3)
	s.newest.At, fail = time.Now().Add(-surveyRetry-time.Second), false
	want("failed a while ago", &order, 4)
}
