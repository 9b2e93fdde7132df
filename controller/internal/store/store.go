package store

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"rehost/internal/bus"
	"rehost/protocol"
)

// AppliedKey is the key of the one record in the fleet's bucket.
const AppliedKey = "applied"

// Store is all records of the control plane.
type Store struct {
	Servers    *Bucket[protocol.Server]
	Points     *Bucket[protocol.Point]
	Jobs       *Bucket[protocol.Job]
	Fleet      *Bucket[protocol.Fleet]
	Staging    *Bucket[protocol.ReplicaServer]
	Enrolments *Bucket[protocol.Enrolment]
	Told       *Bucket[protocol.Told]
	Webhooks   *Bucket[protocol.Webhook]
	Operators  *Bucket[protocol.Operator]
	Approvals  *Bucket[protocol.Approval]

	Screenshots *Screenshots

	turn chan struct{} // of Still
}

// Open makes sure that the buckets exist, and binds them.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	if err := bus.EnsureBuckets(ctx, js); err != nil {
		return nil, err
	}
	screens, err := bus.EnsureScreenshots(ctx, js)
	if err != nil {
		return nil, err
	}
	s := &Store{turn: make(chan struct{}, 1), Screenshots: &Screenshots{kv: screens, may: func() error { return nil }}}
	for _, bind := range []func() error{
		func() (err error) {
			s.Servers, err = NewBucket[protocol.Server](ctx, js, protocol.BucketServers)
			return
		},
		func() (err error) { s.Points, err = NewBucket[protocol.Point](ctx, js, protocol.BucketPoints); return },
		func() (err error) { s.Jobs, err = NewBucket[protocol.Job](ctx, js, protocol.BucketJobs); return },
		func() (err error) { s.Fleet, err = NewBucket[protocol.Fleet](ctx, js, protocol.BucketFleet); return },
		func() (err error) {
			s.Staging, err = NewBucket[protocol.ReplicaServer](ctx, js, protocol.BucketStaging)
			return
		},
		func() (err error) {
			s.Enrolments, err = NewBucket[protocol.Enrolment](ctx, js, protocol.BucketEnrolments)
			return
		},
		func() (err error) { s.Told, err = NewBucket[protocol.Told](ctx, js, protocol.BucketTold); return },
		func() (err error) {
			s.Webhooks, err = NewBucket[protocol.Webhook](ctx, js, protocol.BucketWebhooks)
			return
		},
		func() (err error) {
			s.Operators, err = NewBucket[protocol.Operator](ctx, js, protocol.BucketOperators)
			return
		},
		func() (err error) {
			s.Approvals, err = NewBucket[protocol.Approval](ctx, js, protocol.BucketApprovals)
			return
		},
	} {
		if err := bind(); err != nil {
			return nil, err
		}
	}
	s.Servers.note = func(before protocol.Server, after *protocol.Server) { transitions(before, after, time.Now()) }
	return s, nil
}

// bucket is one of any kind.
type bucket interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	places() chan struct{}
	only(may func() error)
}

func (s *Store) all() []bucket {
	return []bucket{s.Servers, s.Points, s.Jobs, s.Fleet, s.Staging, s.Enrolments, s.Told, s.Webhooks, s.Operators, s.Approvals}
}

// Only makes the store write no record unless may says nil, asked just before each write. Call it before anything is written.
func (s *Store) Only(may func() error) {
	for _, b := range s.all() {
		b.only(may)
	}
	s.Screenshots.may = may
}

// Run keeps all mirrors until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, b := range s.all() {
		group.Go(func() error { return b.Run(ctx) })
	}
	return group.Wait()
}

// WaitReady waits until all mirrors are filled.
func (s *Store) WaitReady(ctx context.Context) error {
	for _, b := range s.all() {
		select {
		case <-b.Ready():
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// Still calls do while no record is written: then what is on the bus is one moment. Writers wait meanwhile. Another call waits for its turn.
func (s *Store) Still(ctx context.Context, do func(context.Context) error) error {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.turn }()
	for _, b := range s.all() {
		for range cap(b.places()) {
			select {
			case b.places() <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			defer func() { <-b.places() }()
		}
	}
	return do(ctx)
}

// Applied returns the applied configuration; before the first apply it is empty.
func (s *Store) Applied() protocol.Fleet {
	f, err := s.Fleet.Get(AppliedKey)
	if err != nil {
		return protocol.Fleet{}
	}
	return f
}

// ApprovalKey is the key of an approval's record: one for each wave, role and person.
func ApprovalKey(a protocol.Approval) string { return a.Wave + "." + a.Role + "." + a.Operator }

// PointKey is the key of a point's record.
func PointKey(server, point string) string { return server + "." + point }
