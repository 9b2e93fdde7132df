// Package barrier lets the servers of a point's group wait for each other: nobody goes on from a phase before all have
// arrived at it. It keeps who has arrived in memory only: when that is lost, so is the point, and another one is taken.
// It decides nothing about the point's record, and freezes nothing.
package barrier

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"rehost/protocol"
)

// Lifetime is how long a barrier is kept, from the first arrival: longer than an agent waits at all phases together.
const Lifetime = 3 * time.Minute

// Members returns the servers that take a point together, or an error when server is not one of them or the point is
// not wanted any more.
type Members func(server, point string) ([]string, error)

// Service is the barriers of all points that are being taken. It is safe for concurrent use.
type Service struct {
	members  Members
	lifetime time.Duration

	mu       sync.Mutex
	barriers map[string]*barrier // by point
}

// barrier is one point's.
type barrier struct {
	members []string
	at      map[string]int                     // how many phases a server has arrived at
	waiting map[string]func(*protocol.Problem) // the answer to each server that waits
	failed  *protocol.Problem
}

// New makes a Service without barriers.
func New(members Members) *Service {
	return &Service{members: members, lifetime: Lifetime, barriers: map[string]*barrier{}}
}

// Arrive notes that a server has arrived, or that it gives the point up, and calls reply once: now or when all have
// arrived, with nil, or with a problem as soon as it is known that they will not. It never blocks.
func (s *Service) Arrive(server string, req protocol.BarrierRequest, reply func(*protocol.Problem)) {
	members, err := s.members(server, req.Point)
	phase := slices.Index(protocol.BarrierPhases, req.Phase)
	if err == nil && (phase < 0 || req.Members != len(members) || !slices.Contains(members, server)) {
		err = fmt.Errorf("server %s arrives at %q of point %s with %d servers: this is not how it was ordered", server, req.Phase, req.Point, req.Members)
	}
	if err != nil {
		reply(problem("%s", err))
		return
	}
	s.mu.Lock()
	b := s.barrierLocked(req.Point, members)
	answers := b.arrive(server, phase, req.Error, reply)
	s.mu.Unlock()
	for _, answer := range answers { // not under the lock: they go to the bus
		answer()
	}
}

func (s *Service) barrierLocked(point string, members []string) *barrier {
	b := s.barriers[point]
	if b == nil {
		b = &barrier{members: members, at: map[string]int{}, waiting: map[string]func(*protocol.Problem){}}
		s.barriers[point] = b
		time.AfterFunc(s.lifetime, func() { s.forget(point) })
	}
	return b
}

// forget drops a barrier, and tells those who still wait.
func (s *Service) forget(point string) {
	s.mu.Lock()
	answers := s.barriers[point].fail(problem("the servers did not come together within %s", s.lifetime))
	delete(s.barriers, point)
	s.mu.Unlock()
	for _, answer := range answers {
		answer()
	}
}

// arrive returns the answers that are to be given now. A server that comes to a phase again, or leaves one out, was
// restarted: what it freezes from now on is not what the others froze.
func (b *barrier) arrive(server string, phase int, giveUp string, reply func(*protocol.Problem)) []func() {
	switch {
	case b.failed != nil:
	case giveUp != "":
		return append(b.fail(problem("%s gave the point up: %s", server, giveUp)), func() { reply(nil) })
	case b.at[server] != phase:
		return append(b.fail(problem("%s came to %s out of turn: its agent or the controller was restarted", server, protocol.BarrierPhases[phase])),
			func() { reply(problem("the agent or the controller was restarted")) })
	default:
		b.at[server]++
		b.waiting[server] = reply
		for _, m := range b.members {
			if b.at[m] <= phase {
				return nil
			}
		}
		return b.answer(nil)
	}
	failed := b.failed
	return []func(){func() { reply(failed) }}
}

// fail makes this and every later arrival end with a problem. Who has passed the last phase is not called back: what
// becomes of the point then is in its records.
func (b *barrier) fail(p *protocol.Problem) []func() {
	b.failed = p
	return b.answer(p)
}

// answer gives everyone who waits the same answer.
func (b *barrier) answer(p *protocol.Problem) []func() {
	var out []func()
	for _, reply := range b.waiting {
		out = append(out, func() { reply(p) })
	}
	clear(b.waiting)
	return out
}

func problem(format string, args ...any) *protocol.Problem {
	return &protocol.Problem{
		Code: protocol.ProblemPoint, Message: "wait for the other servers of the application: " + fmt.Sprintf(format, args...),
		Hint: "another attempt is made; look at the points of each server: rehost point list SERVER", At: time.Now(),
	}
}
