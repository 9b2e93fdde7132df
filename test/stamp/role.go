package stamp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/agent"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/internal/jsonfile"
	"rehost/protocol"
	"rehost/replicaserver"
)

// The names under which the roles know each other.
const (
	serverName  = "web-1"
	replicaName = "staging-1"
	generation  = "g1"
)

// brokerConfig is what the broker's process is told.
type brokerConfig struct {
	Dir, Address string
	Hello        string // file that it writes when it answers: a [welcome]
}

// replicaConfig is what the replication server's process is told.
type replicaConfig struct {
	Config   replicaserver.Config
	Volatile bool // the volumes lose what was not flushed when the process is killed
}

// welcome is what the broker tells the test.
type welcome struct {
	Bus                        protocol.Bus
	Controller, Agent, Replica bus.Identity
}

// Main is TestMain of the tests that use a [World]: it makes the test's binary each of the roles, the agent's freeze
// helper, and the owner's hooks. It returns the code to exit with.
func Main(m *testing.M) (code int) {
	if len(os.Args) < 2 {
		return m.Run()
	}
	run := map[string]func(ctx context.Context, log hclog.Logger, config string) error{
		"role-agent": runAgent, "role-replica": runReplica, "role-broker": runBroker,
	}[os.Args[1]]
	var err error
	switch {
	case os.Args[1] == "freeze-helper":
		err = agent.FreezeHelper(context.Background(), os.Args[2:], os.Stdin, os.Stdout)
	case os.Args[1] == "gate":
		err = askGate(os.Args[2], os.Args[3])
	case run != nil:
		ctx, cancel := context.WithCancel(context.Background())
		go func() { // a role ends with the test, whatever becomes of that
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		log := hclog.New(&hclog.LoggerOptions{Name: os.Args[1], Output: os.Stderr, Level: hclog.Debug})
		err = run(ctx, log, os.Args[2])
	default:
		return m.Run()
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%v (%s)\n", err, hint.Of(err))
		return 1
	}
	return 0
}

func runAgent(ctx context.Context, log hclog.Logger, config string) error {
	var cfg agent.Config
	if err := jsonfile.Read(config, &cfg); err != nil {
		return err
	}
	return agent.Run(ctx, cfg, agent.Deps{Logger: log})
}

func runReplica(ctx context.Context, log hclog.Logger, config string) error {
	var cfg replicaConfig
	if err := jsonfile.Read(config, &cfg); err != nil {
		return err
	}
	deps := replicaserver.Deps{Logger: log}
	if cfg.Volatile {
		deps.OpenVolume = openVolatile
	}
	return replicaserver.Run(ctx, cfg.Config, deps)
}

func runBroker(ctx context.Context, log hclog.Logger, config string) error {
	var cfg brokerConfig
	if err := jsonfile.Read(config, &cfg); err != nil {
		return err
	}
	s, err := broker.Listen(ctx, broker.ServerConfig{Dir: cfg.Dir, Address: cfg.Address, Logger: log})
	if err != nil {
		return err
	}
	defer s.Close()
	w := welcome{Bus: s.Bus()}
	for _, who := range []struct {
		identity   *bus.Identity
		role, name string
	}{{&w.Controller, protocol.RoleController, "test"}, {&w.Agent, protocol.RoleAgent, serverName}, {&w.Replica, protocol.RoleReplicaServer, replicaName}} {
		if *who.identity, err = s.Authority().Identity(who.role, who.name); err != nil {
			return err
		}
	}
	if err := jsonfile.Write(cfg.Hello, w); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// askGate is a hook of the owner: it stops the writers of the raw disks, or lets them go on.
func askGate(socket, word string) error {
	c, err := net.DialTimeout("unix", socket, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // the answer has come, or not
	if err := json.NewEncoder(c).Encode(word); err != nil {
		return err
	}
	var answer string
	return json.NewDecoder(c).Decode(&answer)
}

// serveGate answers the hooks until l is closed.
func serveGate(l net.Listener, g *Gate) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go func() { // ends with the hook's process
			defer c.Close() //nolint:errcheck // the hook has its answer
			var word string
			if json.NewDecoder(c).Decode(&word) != nil {
				return
			}
			if word == "shut" {
				g.Shut()
			} else {
				g.Open()
			}
			_ = json.NewEncoder(c).Encode("done") // the hook may have been killed
		}()
	}
}
