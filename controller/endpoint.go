package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/order"
	"rehost/controller/internal/point"
	"rehost/controller/internal/store"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// snapshotReads is how many ranges of snapshots are read at once, of two blocks each: if a block takes 50 ms, the driver's pace of 500
// blocks per second is what bounds them.
const snapshotReads = 16

// endpoints lists everything that the controller answers.
func (c *controller) endpoints() []bus.Endpoint {
	return append(c.desk.Endpoints(),
		bus.Handle("agent", protocol.AgentReportSubject("*"), c.agentReport),
		bus.Handle("replicaserver", protocol.ReplicaReportSubject("*"), c.replicaReport),
		bus.Handle("snapshot", protocol.SnapshotSubject("*"), c.points.Content).AtOnce(snapshotReads),
		bus.HandleLater("barrier", protocol.BarrierSubject("*"), c.arrive),
		c.audit.Keep(bus.Handle("grant", protocol.GrantSubject("*"), c.desk.Grant), bus.Sender, func([]byte) bool { return false }),
		c.audit.Keep(bus.Handle("enrol", protocol.EnrolSubject, c.enrol), nobody, func([]byte) bool { return false }),
	)
}

// nobody is who enrols: it has a token and no identity yet. What it claims to be stands in the request.
func nobody(context.Context) string { return "" }

// agentReport keeps an agent's report and answers with its order.
func (c *controller) agentReport(ctx context.Context, report protocol.AgentReport) (protocol.AgentOrder, error) {
	if sender := bus.Sender(ctx); report.Server != sender {
		return protocol.AgentOrder{}, impostor(sender, report.Server)
	}
	c.reports.PutAgent(report)
	return c.agentOrder(report.Server), nil
}

func (c *controller) agentOrder(server string) protocol.AgentOrder {
	rec, err := c.store.Servers.Get(server)
	if err != nil {
		return order.Unknown(server)
	}
	applied := c.store.Applied()
	settings, replication, launch, _ := fleet.Settings(applied, server)
	o := order.Agent(rec, replication, launch)
	o.FenceMax = settings.FenceMax
	report, _, known := c.reports.Agent(server)
	if report.Survey != nil {
		o.SurveyHeld = report.SurveyID
	}
	if !rec.Restored.IsZero() && known {
		o.Fence, o.FenceID, o.FenceKeep = report.Fenced || report.FenceKept, report.FenceID, report.FenceKept // an old record neither stops a source that serves nor lets one go on beside its target
	}
	o.Bandwidth = c.shares.limit(applied, c.reports, server, replication, c.cfg.Timing.AgentLost)
	if p := c.reports.Twins(server); p != nil {
		o.Problem = p
		if o.Wanted == protocol.WantReplicate {
			o.Wanted, o.Point = protocol.WantPause, nil
		}
	}
	return o
}

// replicaReport keeps a replication server's report and answers with its order.
func (c *controller) replicaReport(ctx context.Context, report protocol.ReplicaReport) (protocol.ReplicaOrder, error) {
	if sender := bus.Sender(ctx); report.Name != sender {
		return protocol.ReplicaOrder{}, impostor(sender, report.Name)
	}
	c.reports.PutReplica(report)
	return c.replicaOrder(report.Name)
}

func (c *controller) replicaOrder(name string) (protocol.ReplicaOrder, error) {
	rs, err := c.store.Staging.Get(name)
	if err != nil {
		return protocol.ReplicaOrder{}, err // it keeps what it has
	}
	if !rs.Lost.IsZero() {
		return protocol.ReplicaOrder{Replicas: []protocol.ReplicaAssignment{}}, nil // too late: another one takes over
	}
	servers := make([]protocol.Server, 0, len(rs.Servers))
	for _, server := range slices.Sorted(slices.Values(rs.Servers)) {
		switch r, err := c.store.Servers.Get(server); {
		case err == nil:
			servers = append(servers, r)
		case !errors.Is(err, store.ErrNotFound):
			return protocol.ReplicaOrder{}, err
		}
	}
	report, _, _ := c.reports.ReplicaServer(name)
	return order.Replica(name, servers, report, func(server, id string) bool {
		pt, err := c.points.Get(server, id)
		return err == nil && point.Awaited(pt)
	}), nil
}

// arrive brings a server to the barrier of its application's point. It is answered when all have arrived.
func (c *controller) arrive(ctx context.Context, req protocol.BarrierRequest, reply func(protocol.BarrierReply)) {
	c.barrier.Arrive(bus.Sender(ctx), req, func(p *protocol.Problem) { reply(protocol.BarrierReply{Problem: p}) })
}

func impostor(sender, name string) *protocol.Problem {
	return &protocol.Problem{Code: protocol.ProblemNotAllowed, Message: fmt.Sprintf("%s reports as %q", sender, name), Hint: "name it as it was enrolled"}
}

// enrol changes a token into an identity, once. The token is burnt before the identity is handed out.
func (c *controller) enrol(ctx context.Context, req protocol.EnrolRequest) (protocol.EnrolReply, error) {
	refuse := func(message, advice string) (protocol.EnrolReply, error) {
		c.logger.Warn("enrolment refused", "role", req.Role, "name", req.Name, "hostname", req.Hostname, "error", message)
		return protocol.EnrolReply{}, &protocol.Problem{Code: protocol.ProblemNotAllowed, Message: message, Hint: advice, At: time.Now()}
	}
	if c.authority == nil {
		return refuse("this controller does not run the bus", "make the identity with the tools of that bus")
	}
	if err := protocol.CheckName(req.Name); err != nil {
		return refuse(err.Error(), "choose such a name")
	}
	jwt, id, err := c.authority.Enrol(req)
	if err != nil {
		return refuse(err.Error(), hint.Of(err))
	}
	// A controller that is told to end still answers: otherwise the token would be burnt for nobody.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	err = c.store.Enrolments.Create(ctx, id, protocol.Enrolment{Role: req.Role, Name: req.Name, Used: time.Now(), By: req.PublicKey})
	if errors.Is(err, store.ErrExists) && !c.usedBy(id, req.PublicKey) {
		return refuse("the enrolment token was used before", "make a new one: rehost server token "+req.Name)
	}
	if err != nil && !errors.Is(err, store.ErrExists) {
		return protocol.EnrolReply{}, err
	}
	c.logger.Info("enrolled", "role", req.Role, "name", req.Name, "hostname", req.Hostname)
	return protocol.EnrolReply{JWT: jwt}, nil
}

// usedBy says whether the token was burnt for the same key: then only the answer was lost.
func (c *controller) usedBy(id, publicKey string) bool {
	e, err := c.store.Enrolments.Get(id)
	return err == nil && e.By == publicKey
}
