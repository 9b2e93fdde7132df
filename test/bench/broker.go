package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/protocol"
)

// brokerRole is the first argument of the process that is the bus, so that its work is not counted as ours.
const brokerRole = "broker"

// brokerFacts is what the bus's process says when it answers.
type brokerFacts struct {
	Bus        protocol.Bus `json:"bus"`
	Controller bus.Identity `json:"controller"`
	Agent      string       `json:"agent"`   // token
	Replica    string       `json:"replica"` // token
}

// runBroker is the controller's embedded bus in a process of its own, with the stream of one server; it answers
// enrolments. Its arguments are a folder and an address.
func runBroker(ctx context.Context, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s: want a folder and an address", brokerRole)
	}
	log := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	s, err := broker.Listen(ctx, broker.ServerConfig{Dir: args[0], Address: args[1], Logger: log})
	if err != nil {
		return err
	}
	defer s.Close()
	facts := brokerFacts{Bus: s.Bus()}
	a := s.Authority()
	if facts.Controller, err = a.Identity(protocol.RoleController, "bench"); err != nil {
		return err
	}
	if facts.Agent, _, err = a.Token(protocol.RoleAgent, serverName, time.Hour); err != nil {
		return err
	}
	if facts.Replica, _, err = a.Token(protocol.RoleReplicaServer, replicaName, time.Hour); err != nil {
		return err
	}
	nc, err := bus.Connect(ctx, bus.Context{Bus: s.Bus(), Identity: facts.Controller}, log)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if err := bus.EnsureBuckets(ctx, js); err != nil {
		return err
	}
	if err := bus.EnsureStream(ctx, js, serverName, generation, 0); err != nil {
		return err
	}
	err = bus.Serve(ctx, nc, log, "enrolment", bus.Handle("enrol", protocol.EnrolSubject,
		func(_ context.Context, r protocol.EnrolRequest) (protocol.EnrolReply, error) {
			jwt, _, err := a.Enrol(r)
			return protocol.EnrolReply{JWT: jwt}, err
		}))
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(facts); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
