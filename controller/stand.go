package controller

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"

	"rehost/controller/internal/lease"
	"rehost/internal/bus"
	"rehost/protocol"
)

// stand is a controller beside which there may be others: it leads when it holds the lease. Its connection is only for that, so that nothing else delays a renewal.
func stand(ctx context.Context, cfg Config, deps Deps, at bus.Context) error {
	nc, js, err := openStreams(ctx, at, deps.Logger.Named("lease"))
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := bus.CheckFormat(ctx, js); err != nil {
		return err
	}
	kv, err := bus.EnsureLease(ctx, js)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this host: %w", err)
	}
	candidate := lease.New(kv, lease.Config{
		Self:  protocol.Lease{Holder: cfg.Name, Host: host, Process: rand.Text(), Fleet: fleetOf(deps.Authority)},
		Lasts: cfg.Timing.Lease, Logger: deps.Logger.Named("lease"), Waits: deps.Waits,
	})
	return candidate.Run(ctx, func(ctx context.Context, term *lease.Term) error {
		return lead(ctx, cfg, deps, at, deps.Authority, nil, term)
	})
}
