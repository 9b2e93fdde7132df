package point

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/store"
	"rehost/protocol"
)

// Request records that an operator wants a point of the servers, of all at once when group is not empty. It returns the
// records, in the order of the servers.
func (p *Points) Request(ctx context.Context, group string, servers []string) ([]protocol.Point, error) {
	_, settings, _, _ := fleet.Settings(p.store.Applied(), servers[0])
	pt := protocol.Point{ID: newID(time.Now()), State: protocol.PointOrdered, Ordered: time.Now(), Origin: protocol.OriginRequest, Attempt: 1, Attempts: settings.FreezeAttempts}
	if len(servers) > 1 {
		pt.Group, pt.Members = group, servers
	}
	out := make([]protocol.Point, 0, len(servers))
	for _, server := range servers {
		pt.Server = server
		if err := p.create(ctx, pt); err != nil {
			return nil, err
		}
		out = append(out, pt)
	}
	return out, nil
}

// create makes a record unless it is there.
func (p *Points) create(ctx context.Context, pt protocol.Point) error {
	err := p.store.Points.Create(ctx, store.PointKey(pt.Server, pt.ID), pt)
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	if err == nil {
		p.reports.Touch(pt.Server)
	}
	return err
}

// plan orders what the schedule wants of a server and what is worth another attempt, and removes what the schedule
// does not keep.
func (p *Points) plan(ctx context.Context, rec protocol.Server, all []protocol.Point) error {
	_, settings, _, wanted := fleet.Settings(p.store.Applied(), rec.Name)
	if !wanted || rec.Wanted != protocol.WantReplicate || !rec.Finalized.IsZero() {
		return nil
	}
	now := time.Now()
	for _, pt := range Again(all, now) {
		next := protocol.Point{
			Server: pt.Server, State: protocol.PointOrdered, Ordered: now, Origin: pt.Origin, Attempt: attempt(pt) + 1, Attempts: pt.Attempts,
			First: first(pt), Group: pt.Group, Members: pt.Members,
		}
		// The same name whoever of a group makes it, and however often.
		next.ID = fmt.Sprintf("%s-%d", next.First, next.Attempt)
		p.logger.Info("another attempt at a point", "server", pt.Server, "point", next.ID, "attempt", next.Attempt)
		if err := p.create(ctx, next); err != nil {
			return err
		}
	}
	report, _, known := p.reports.Agent(rec.Name)
	if known && rec.Job == "" && report.Generation == rec.Generation && report.Replication == protocol.ReplicationContinuous && Due(settings.PointsEvery, all, now) {
		id := newID(now)
		p.logger.Info("scheduled point ordered", "server", rec.Name, "point", id)
		if err := p.create(ctx, protocol.Point{
			ID: id, Server: rec.Name, State: protocol.PointOrdered, Ordered: now, Origin: protocol.OriginSchedule, Attempt: 1, Attempts: settings.FreezeAttempts,
		}); err != nil {
			return err
		}
	}
	return p.thin(ctx, rec, Policy{Newest: settings.PointsKeep, Tiers: settings.PointsRetain}, all, now)
}

// thin removes the points of the schedule that its policy does not keep.
func (p *Points) thin(ctx context.Context, rec protocol.Server, policy Policy, all []protocol.Point, now time.Time) error {
	if len(Surplus(policy, all, nil, now)) == 0 {
		return nil
	}
	used, err := p.used(rec)
	if err != nil {
		return err
	}
	for _, pt := range Surplus(policy, all, used, now) {
		p.logger.Info("point removed: the schedule does not keep it", "server", pt.Server, "point", pt.ID)
		if err := p.Remove(ctx, pt.Server, pt.ID); err != nil {
			return err
		}
	}
	return nil
}

// newID makes an id that sorts by time.
func newID(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return "p" + now.UTC().Format("20060102-150405-") + hex.EncodeToString(b[:])
}
