package point

import (
	"context"
	"errors"
	"fmt"

	"rehost/controller/internal/store"
	"rehost/protocol"
)

// used lists the points of a server that something was launched from or is being launched from, and by what.
func (p *Points) used(rec protocol.Server) (map[string]bool, error) {
	by, err := p.users(rec)
	used := map[string]bool{}
	for id := range by {
		used[id] = true
	}
	return used, err
}

func (p *Points) users(rec protocol.Server) (map[string]string, error) {
	by := map[string]string{}
	for what, launched := range map[string]*protocol.Launched{"the test instance": rec.Test, "the cutover's target": rec.Cutover} {
		if launched != nil {
			by[launched.Point] = what
		}
	}
	jobs, err := p.store.Jobs.List("")
	if err != nil {
		return nil, err
	}
	for _, job := range jobs {
		for _, s := range job.Servers {
			if id := s.Data[protocol.JobDataPoint]; id != "" && !job.Status.Ended() && s.Server == rec.Name {
				by[id] = "job " + job.ID
			}
		}
	}
	return by, nil
}

// Find returns a server's point, or what to say when there is none.
func (p *Points) Find(server, id string) (protocol.Point, error) {
	pt, err := p.Get(server, id)
	if errors.Is(err, store.ErrNotFound) {
		return pt, &protocol.Problem{Code: protocol.ProblemUnknown, Server: server, Message: fmt.Sprintf("no point %q of %s", id, server), Hint: "look at what there is: rehost point list " + server}
	}
	return pt, err
}

// Pin keeps a complete point, with all of its parts, or lets go of it.
func (p *Points) Pin(ctx context.Context, server, id string, pinned bool) ([]protocol.Point, error) {
	pt, err := p.Find(server, id)
	if err != nil {
		return nil, err
	}
	if pt.State != protocol.PointComplete && pinned {
		return nil, &protocol.Problem{
			Code: protocol.ProblemConflict, Server: server, Message: fmt.Sprintf("point %s of %s is %s: there is nothing to keep", id, server, pt.State),
			Hint: "pin a complete one: rehost point list " + server,
		}
	}
	return p.each(pt, func(member protocol.Point) (protocol.Point, error) {
		return p.store.Points.Update(ctx, store.PointKey(member.Server, id), func(v *protocol.Point) error {
			v.Pinned = pinned && v.State == protocol.PointComplete
			return nil
		})
	})
}

// Leave makes a job's complete point one of the schedule, which keeps it until there are newer ones. It says false when there is none.
func (p *Points) Leave(ctx context.Context, server, id string) (bool, error) {
	left := false
	_, err := p.store.Points.Update(ctx, store.PointKey(server, id), func(v *protocol.Point) error {
		if left = v.State == protocol.PointComplete; left {
			v.Origin = protocol.OriginSchedule
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return left, err
}

// Withdraw removes a point on an operator's word, with all of its parts. One that is pinned, in use or on its way stays.
func (p *Points) Withdraw(ctx context.Context, server, id string) ([]protocol.Point, error) {
	pt, err := p.Find(server, id)
	if err != nil {
		return nil, err
	}
	if _, err := p.each(pt, func(member protocol.Point) (protocol.Point, error) { return member, p.kept(member) }); err != nil {
		return nil, err
	}
	return p.each(pt, func(member protocol.Point) (protocol.Point, error) {
		if err := p.Remove(ctx, member.Server, id); err != nil {
			return member, err
		}
		return p.Get(member.Server, id)
	})
}

// kept is the reason for which a point must not be removed now.
func (p *Points) kept(pt protocol.Point) error {
	no := func(hint, format string, args ...any) error {
		return &protocol.Problem{Code: protocol.ProblemConflict, Server: pt.Server, Message: fmt.Sprintf("point %s of %s ", pt.ID, pt.Server) + fmt.Sprintf(format, args...), Hint: hint}
	}
	if pt.Pinned {
		return no(fmt.Sprintf("unpin it first: rehost point unpin %s %s", pt.Server, pt.ID), "is pinned")
	}
	if Active(pt) {
		return no("wait until it is complete or has failed", "is %s", pt.State)
	}
	rec, err := p.store.Servers.Get(pt.Server)
	if err != nil {
		return err
	}
	by, err := p.users(rec)
	if err != nil {
		return err
	}
	if what := by[pt.ID]; what != "" {
		return no("terminate that first: rehost wave terminate; or wait for the job", "is used by %s", what)
	}
	return nil
}

// each does something with every part of a point, in the order of its servers.
func (p *Points) each(pt protocol.Point, do func(protocol.Point) (protocol.Point, error)) ([]protocol.Point, error) {
	servers := pt.Members
	if len(servers) < 2 {
		servers = []string{pt.Server}
	}
	out := make([]protocol.Point, 0, len(servers))
	for _, server := range servers {
		member, err := p.Get(server, pt.ID)
		if errors.Is(err, store.ErrNotFound) {
			continue // its server was removed
		}
		if err == nil {
			member, err = do(member)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, member)
	}
	return out, nil
}
