package operator

import (
	"context"
	"fmt"
	"slices"

	"rehost/controller/internal/fleet"
	"rehost/protocol"
)

// Point orders a point of a server, or one of all servers of an application at once.
func (d *Desk) Point(ctx context.Context, req protocol.PointRequest) ([]protocol.Point, error) {
	servers := []string{req.Server}
	switch {
	case (req.Server == "") == (req.Application == ""):
		return nil, &protocol.Problem{Code: protocol.ProblemInvalid, Message: "a point is of one server or of one application", Hint: "rehost point take SERVER, or --application NAME"}
	case req.Application != "":
		apps := d.store.Applied().Applications
		i := slices.IndexFunc(apps, func(a protocol.ApplicationSettings) bool { return a.Name == req.Application })
		if i < 0 || len(apps[i].Servers) == 0 {
			return nil, &protocol.Problem{Code: protocol.ProblemUnknown, Message: fmt.Sprintf("no application %q with servers", req.Application), Hint: "applications are in the configuration: rehost plan"}
		}
		servers = apps[i].Servers
	}
	for _, name := range servers {
		if p := d.pointable(name); p != nil {
			return nil, p
		}
	}
	return d.points.Request(ctx, req.Application, servers)
}

// pointable returns why no point of a server can be taken now.
func (d *Desk) pointable(name string) *protocol.Problem {
	rec, err := d.store.Servers.Get(name)
	if _, _, _, wanted := fleet.Settings(d.store.Applied(), name); err != nil || !wanted {
		return unknownServer(name)
	}
	report, _, _ := d.reports.Agent(name)
	if rec.Wanted != protocol.WantReplicate || report.Generation != rec.Generation || report.Replication != protocol.ReplicationContinuous {
		return &protocol.Problem{
			Code: protocol.ProblemConflict, Server: name, Message: fmt.Sprintf("no point of %s can be taken now: it is not CONTINUOUS", name),
			Hint: "wait until it is: rehost status --watch",
		}
	}
	return nil
}

// Pin keeps a point, or lets go of it.
func (d *Desk) Pin(ctx context.Context, req protocol.PinRequest) ([]protocol.Point, error) {
	if _, err := d.store.Servers.Get(req.Server); err != nil {
		return nil, unknownServer(req.Server)
	}
	return d.points.Pin(ctx, req.Server, req.ID, req.Pinned)
}

// Remove removes a point.
func (d *Desk) Remove(ctx context.Context, req protocol.RemoveRequest) ([]protocol.Point, error) {
	if _, err := d.store.Servers.Get(req.Server); err != nil {
		return nil, unknownServer(req.Server)
	}
	return d.points.Withdraw(ctx, req.Server, req.ID)
}
