// Package bustest starts a real embedded bus for tests. It is never part of a binary.
package bustest

import (
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/broker"
	"rehost/internal/bus"
)

// Start runs a bus on a free port of 127.0.0.1 with its buckets in place, until the test ends.
func Start(tb testing.TB) *broker.Server {
	tb.Helper()
	return StartIn(tb, tb.TempDir(), "127.0.0.1:0")
}

// StartIn is Start with a folder and an address of the caller's, for tests that restart the bus.
func StartIn(tb testing.TB, dir, address string) *broker.Server {
	tb.Helper()
	s, err := broker.Listen(tb.Context(), broker.ServerConfig{Dir: dir, Address: address})
	if err != nil {
		tb.Fatalf("start a bus: %v", err)
	}
	tb.Cleanup(s.Close)
	nc := Connect(tb, s, "controller", "bustest")
	js, err := jetstream.New(nc)
	if err == nil {
		err = bus.EnsureBuckets(tb.Context(), js)
	}
	if err != nil {
		tb.Fatalf("prepare the bus: %v", err)
	}
	return s
}

// Connect connects as a role and name, until the test ends.
func Connect(tb testing.TB, s *broker.Server, role, name string) *nats.Conn {
	tb.Helper()
	nc, err := bus.Connect(tb.Context(), Context(tb, s, role, name), hclog.NewNullLogger())
	if err != nil {
		tb.Fatalf("connect as %s/%s: %v", role, name, err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// Context makes an identity and returns what a client needs to connect with it.
func Context(tb testing.TB, s *broker.Server, role, name string) bus.Context {
	tb.Helper()
	id, err := s.Authority().Identity(role, name)
	if err != nil {
		tb.Fatalf("make identity %s/%s: %v", role, name, err)
	}
	return bus.Context{Bus: s.Bus(), Identity: id}
}
