package operator

import (
	"context"
	"errors"
	"slices"
	"time"

	"rehost/controller/internal/leftover"
	"rehost/protocol"
)

// removeWithin bounds what one request removes; the rest is asked for again.
const removeWithin = 2 * time.Second

// Sweep lists what is left in the cloud, and removes of it what the request names.
func (d *Desk) Sweep(ctx context.Context, req protocol.SweepRequest) ([]protocol.Leftover, error) {
	records, err := d.records()
	if err != nil {
		return nil, err
	}
	found, err := leftover.Find(ctx, d.cloud, records, time.Now())
	if err != nil {
		return nil, &protocol.Problem{Code: protocol.ProblemCloud, Message: err.Error(), Hint: "try again when the cloud answers"}
	}
	out := []protocol.Leftover{}
	limited, cancel := context.WithTimeoutCause(ctx, removeWithin, errors.New("it takes longer; ask again"))
	defer cancel()
	for _, l := range found {
		if slices.Contains(req.Remove, l.ID) && limited.Err() == nil {
			if err := leftover.Remove(limited, d.cloud, l); err != nil {
				l.Error = err.Error()
			} else {
				l.Removed = true
			}
		}
		out = append(out, l)
	}
	return out, nil
}

func (d *Desk) records() (r leftover.Records, err error) {
	if r.Servers, err = d.store.Servers.List(""); err != nil {
		return r, err
	}
	if r.Points, err = d.store.Points.List(""); err != nil {
		return r, err
	}
	if r.Jobs, err = d.store.Jobs.List(""); err != nil {
		return r, err
	}
	r.Replicas, err = d.store.Staging.List("")
	return r, err
}
