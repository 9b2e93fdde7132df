package barrier

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rehost/protocol"
)

var three = []string{"a", "b", "c"}

// answers collects what servers were told: "server phase" to the problem's text, or "go".
type answers struct {
	mu   sync.Mutex
	told map[string]string
}

func (a *answers) arrive(s *Service, server string, phase protocol.BarrierPhase) {
	a.send(s, server, protocol.BarrierRequest{Point: "p", Phase: phase, Members: len(three)})
}

func (a *answers) send(s *Service, server string, r protocol.BarrierRequest) {
	s.Arrive(server, r, func(p *protocol.Problem) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.told[server+" "+string(r.Phase)] = "go"
		if p != nil {
			a.told[server+" "+string(r.Phase)] = p.Message
		}
	})
}

func (a *answers) want(t *testing.T, key, part string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if got := a.told[key]; part == "" && got != "" || !strings.Contains(got, part) {
		t.Errorf("%s was told %q, want %q", key, got, part)
	}
}

func newService() (*Service, *answers) {
	return New(func(server, point string) ([]string, error) {
		if point != "p" {
			return nil, errors.New("point " + point + " is not wanted from " + server)
		}
		return three, nil
	}), &answers{told: map[string]string{}}
}

func TestNobodyGoesOnBeforeAllHaveArrived(t *testing.T) {
	s, a := newService()
	for _, phase := range protocol.BarrierPhases {
		p := " " + string(phase)
		a.arrive(s, "a", phase)
		a.arrive(s, "b", phase)
		a.want(t, "a"+p, "")
		a.want(t, "b"+p, "")
		a.arrive(s, "c", phase)
		for _, server := range three {
			a.want(t, server+p, "go")
		}
	}
}

func TestOneThatGivesUpEndsItForAll(t *testing.T) {
	for i, phase := range protocol.BarrierPhases {
		s, a := newService()
		for _, before := range protocol.BarrierPhases[:i] {
			for _, server := range three {
				a.arrive(s, server, before)
			}
		}
		a.arrive(s, "a", phase)
		a.send(s, "b", protocol.BarrierRequest{Point: "p", Phase: phase, Members: 3, Error: "no memory"})
		a.want(t, "a "+string(phase), "b gave the point up: no memory")
		a.arrive(s, "c", phase)
		a.want(t, "c "+string(phase), "b gave the point up: no memory")
	}
}

// An agent that was restarted takes the order for a new one. The others may have read their frozen state already.
func TestAServerThatComesAgainIsNotLetThrough(t *testing.T) {
	s, a := newService()
	for _, phase := range protocol.BarrierPhases {
		for _, server := range three {
			a.arrive(s, server, phase)
		}
	}
	a.arrive(s, "a", protocol.BarrierReady)
	a.want(t, "a ready", "restarted")

	s, a = newService()
	a.arrive(s, "b", protocol.BarrierReady)
	a.arrive(s, "a", protocol.BarrierFrozen) // the controller was restarted
	a.want(t, "a frozen", "restarted")
	a.want(t, "b ready", "out of turn")
}

func TestStrangersAreRefused(t *testing.T) {
	s, a := newService()
	a.arrive(s, "a", protocol.BarrierReady)
	a.arrive(s, "d", protocol.BarrierReady)
	a.want(t, "d ready", "not how it was ordered")
	a.send(s, "b", protocol.BarrierRequest{Point: "p", Phase: "thawed", Members: 3})
	a.want(t, "b thawed", "not how it was ordered")
	a.send(s, "b", protocol.BarrierRequest{Point: "p", Phase: protocol.BarrierReady, Members: 2})
	a.want(t, "b ready", "not how it was ordered")
	a.send(s, "b", protocol.BarrierRequest{Point: "q", Phase: protocol.BarrierReady, Members: 3})
	a.want(t, "b ready", "not wanted")
	a.want(t, "a ready", "") // and it is still waited for
	if len(s.barriers) != 1 {
		t.Errorf("%d barriers", len(s.barriers))
	}
}

func TestABarrierIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, a := newService()
		a.arrive(s, "a", protocol.BarrierReady)
		time.Sleep(Lifetime + time.Second)
		synctest.Wait()
		a.want(t, "a ready", "did not come together")
		if len(s.barriers) != 0 {
			t.Errorf("%d barriers are kept", len(s.barriers))
		}
	})
}
