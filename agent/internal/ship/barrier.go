package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// readyFor is how long the servers of a group may differ in when they have converged, and in how long their hooks take.
	readyFor = 40 * time.Second
	// giveUpFor bounds telling the others of a failure.
	giveUpFor = 2 * time.Second
)

// group is a point that servers take together, as one of them sees it. A point that is taken alone is a group of one,
// which waits for nobody.
type group struct {
	nc     *nats.Conn
	server string
	order  protocol.PointOrder
}

func (g group) alone() bool { return g.order.Members < 2 }

// arrive returns when all servers have arrived, or with the reason why they will not.
func (g group) arrive(ctx context.Context, phase protocol.BarrierPhase) error {
	if g.alone() {
		return nil
	}
	err := g.ask(ctx, protocol.BarrierRequest{Phase: phase})
	if errors.Is(err, context.DeadlineExceeded) {
		return hint.New(fmt.Sprintf("not all %d servers of %s came to %s in time", g.order.Members, g.order.Group, phase),
			"look at the points of the others, or raise freeze_budget: the freeze lasts until the last one is frozen")
	}
	return err
}

// arriving is arrive beside something else. Its goroutine ends with ctx at the latest.
func (g group) arriving(ctx context.Context, phase protocol.BarrierPhase) <-chan error {
	word := make(chan error, 1)
	if g.alone() {
		word <- nil
		return word
	}
	go func() { word <- g.arrive(ctx, phase) }()
	return word
}

// giveUp tells the others not to wait. It is for the time after the thaw.
func (g group) giveUp(ctx context.Context, why error) error {
	if g.alone() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpFor)
	defer cancel()
	return g.ask(ctx, protocol.BarrierRequest{Error: why.Error(), Phase: protocol.BarrierFrozen})
}

func (g group) ask(ctx context.Context, r protocol.BarrierRequest) error {
	r.Point, r.Members = g.order.ID, g.order.Members
	reply, err := bus.Request[protocol.BarrierRequest, protocol.BarrierReply](ctx, g.nc, protocol.BarrierSubject(g.server), r)
	if err == nil && reply.Problem != nil {
		return hint.Wrap(reply.Problem, reply.Problem.Hint)
	}
	return err
}

// gather converges, and goes on so until all servers of the group have: they should freeze with little left to read.
func (s *Shipper) gather(ctx context.Context, g group) error {
	if err := s.converge(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyFor)
	defer cancel()
	word := g.arriving(ctx, protocol.BarrierReady)
	for {
		select {
		case err := <-word:
			return err
		case <-time.After(convergeRound): // a pause: writing out again and again would be work for nothing
		}
		if err := s.converge(ctx); err != nil {
			return err
		}
	}
}
