package controller

import (
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/controller/internal/account"
	"rehost/controller/internal/lease"
	"rehost/controller/internal/operator"
	"rehost/controller/internal/point"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/step"
	"rehost/controller/internal/webhook"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/cloud"
	"rehost/protocol"
)

// Config is how a controller is set up. What it should do comes from operators.
type Config struct {
	Name            string       // on the bus; empty: main
	Dir             string       // state: the bus's keys and store
	Listen          string       // host:port of the embedded bus
	Hosts           []string     // further names under which clients reach the bus
	External        *bus.Context // a bus that others run; nil: the embedded one
	Alone           bool         // no other controller can be at the external bus; beside an embedded one there never is
	ReplicaBus      []string     // the bus's URLs as replication servers reach it; empty: as everyone
	OperatorContext string       // file for the operator's context; empty: operator.json in Dir
	JobServers      int          // worked on by all jobs at once; 0: 20
	JobsReady       int          // servers of which it is found out at once whether they boot; 0: 2
	Webhooks        []Webhook
	GateCommands    string // folder of the programs that gates may run; empty: none
	Cloud           cloud.Config
	Timing          Timing
}

// Webhook declares who is told of events.
type Webhook = webhook.Config

// Timing is how patient the controller is; zero values get the defaults of [DefaultTiming].
type Timing struct {
	Tick        time.Duration // between two looks at every server
	Poll        time.Duration // between two looks of something that waits
	Retry       time.Duration // first pause after a failure; doubled up to a minute
	AgentLost   time.Duration // a silence after which an agent counts as gone
	ReplicaLost time.Duration // the same for a replication server
	ReplicaBoot time.Duration // from launch to the first report of a replication server

	Lasting time.Duration // how long a state of replication must last before it is recorded, and is an event

	ReplicaRelease time.Duration // how long a replication server may take to give a replica up that is moved

	PointHeld  time.Duration // from a point's order until the replica stands still at it
	PointTaken time.Duration // from there until the cloud has created the snapshots

	Lease time.Duration // how long a controller leads that is not heard of; the same for all of a fleet

	Ready time.Duration // between two looks at which servers are to be booted

	Fence time.Duration // how long an agent may take to say that its fence is as ordered

	WayBack time.Duration // before a cutover's deadline, beside the time that a release of a source was seen to take

	SnapshotRead time.Duration // how long the cloud may take to show a range of a snapshot to an agent, which waits for 30 s
}

// DefaultTiming is for a real fleet.
func DefaultTiming() Timing {
	return Timing{
		Tick: 500 * time.Millisecond, Poll: 250 * time.Millisecond, Retry: 2 * time.Second, AgentLost: 15 * time.Second,
		ReplicaLost: 15 * time.Second, ReplicaRelease: 2 * time.Minute, ReplicaBoot: 10 * time.Minute, Lasting: 10 * time.Second, PointHeld: 10 * time.Minute,
		PointTaken: 2 * time.Minute, SnapshotRead: 20 * time.Second, Lease: lease.DefaultLasts, Fence: 2 * time.Minute, WayBack: 30 * time.Second, Ready: time.Minute,
	}
}

func (t *Timing) fill() {
	d := DefaultTiming()
	for _, f := range []struct{ value, fallback *time.Duration }{
		{&t.Tick, &d.Tick},
		{&t.Poll, &d.Poll},
		{&t.Retry, &d.Retry},
		{&t.AgentLost, &d.AgentLost},
		{&t.ReplicaLost, &d.ReplicaLost},
		{&t.Lasting, &d.Lasting},
		{&t.ReplicaRelease, &d.ReplicaRelease},
		{&t.ReplicaBoot, &d.ReplicaBoot},
		{&t.PointHeld, &d.PointHeld},
		{&t.PointTaken, &d.PointTaken},
		{&t.SnapshotRead, &d.SnapshotRead},
		{&t.Lease, &d.Lease},
		{&t.Fence, &d.Fence},
		{&t.WayBack, &d.WayBack},
	} {
		if *f.value == 0 {
			*f.value = *f.fallback
		}
	}
}

// Cloud is what the controller needs of the cloud; *cloud.Client is one.
type Cloud interface {
	staging.Cloud
	point.Cloud
	step.Cloud
	operator.Cloud
	account.Cloud
}

// Deps is what a controller uses and does not make itself.
type Deps struct {
	Logger hclog.Logger
	Cloud  Cloud              // nil: opened from Config.Cloud
	Ready  func(protocol.Bus) // called when the controller answers; of several, when it begins to lead; may be nil
	// Waits is called when another controller leads; may be nil.
	Waits func(leader protocol.Lease)
	// Authority makes identities for a bus that others run; nil: then nobody can enrol there.
	Authority *broker.Authority
}
