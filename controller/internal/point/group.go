package point

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/store"
	"rehost/protocol"
)

// group returns the records of all servers that take a point together, in the order of its members; of a point that
// is taken alone, only itself. Records that are missing, because an order was interrupted, are made.
func (p *Points) group(ctx context.Context, pt protocol.Point) ([]protocol.Point, error) {
	if len(pt.Members) < 2 {
		return []protocol.Point{pt}, nil
	}
	out := make([]protocol.Point, 0, len(pt.Members))
	for _, server := range pt.Members {
		member, err := p.Get(server, pt.ID)
		if errors.Is(err, store.ErrNotFound) {
			member = protocol.Point{
				ID: pt.ID, Server: server, State: protocol.PointOrdered, Ordered: pt.Ordered, Origin: pt.Origin, Attempt: pt.Attempt, Attempts: pt.Attempts,
				First: pt.First, Group: pt.Group, Members: pt.Members, Job: pt.Job,
			}
			err = p.create(ctx, member)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, member)
	}
	return out, nil
}

// lost returns why a group's point has failed, when it has: with one member it fails for all.
func lost(members []protocol.Point) (problem *protocol.Problem, passing bool) {
	for _, m := range members {
		if m.State == protocol.PointLost || m.State == protocol.PointRemoved {
			problem = &protocol.Problem{Code: protocol.ProblemPoint, Message: fmt.Sprintf("point %s was given up: %s has no part in it", m.ID, m.Server)}
			if m.Problem != nil {
				problem.Code, problem.Hint = m.Problem.Code, m.Problem.Hint
				problem.Message = fmt.Sprintf("point %s was given up with %s: %s", m.ID, m.Server, m.Problem.Message)
			}
			return problem, m.Passing
		}
	}
	return nil, false
}

// allHeld says whether the replicas of all members stand still at the point or have gone on from there, and since when.
func allHeld(members []protocol.Point) (since time.Time, held bool) {
	for _, m := range members {
		if m.State == protocol.PointOrdered {
			return since, false
		}
		if m.Held.After(since) {
			since = m.Held
		}
	}
	return since, true
}

// offerable says whether a member whose snapshots are complete is to be offered. The first member goes first, when the
// snapshots of all are complete, and the others follow it: all of them are offered or none is, whatever happens between.
func offerable(pt protocol.Point, members []protocol.Point) bool {
	leader := members[0]
	if len(members) == 1 {
		return true
	}
	if pt.Server != leader.Server {
		return leader.State == protocol.PointComplete
	}
	return !slices.ContainsFunc(members[1:], func(m protocol.Point) bool { return len(m.Snapshots) == 0 || !Active(m) })
}

// Members returns the servers that take a point together, for the barrier at which they meet.
func (p *Points) Members(server, id string) ([]string, error) {
	pt, err := p.Get(server, id)
	if err != nil {
		return nil, fmt.Errorf("look for point %s of %s: %w", id, server, err)
	}
	if pt.State != protocol.PointOrdered || len(pt.Members) < 2 {
		return nil, fmt.Errorf("point %s of %s is %s: nobody waits for it", id, server, pt.State)
	}
	return pt.Members, nil
}
