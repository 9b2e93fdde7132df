package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/agent"
	"rehost/internal/jsonfile"
	"rehost/protocol"
)

// agentsRole is the first argument of the process in which the agents of a fleet run.
const agentsRole = "agents"

const (
	// simulatedDisk is the size of each disk in bytes, of which simulatedNoise are not zero.
	simulatedDisk    = 1 << 20
	simulatedNoise   = 256 << 10
	simulatedGranule = 64 << 10
	// simulatedPace is the pause between the starts of two agents.
	simulatedPace = 50 * time.Millisecond
)

// simulation is what the agents' process is told, in a file.
type simulation struct {
	Bus     protocol.Bus      `json:"bus"`
	Dir     string            `json:"dir"`
	Servers []simulatedServer `json:"servers"`
}

// simulatedServer is a source.
type simulatedServer struct {
	Name  string   `json:"name"`
	Token string   `json:"token"`
	Disks []string `json:"disks"` // names of them
}

// runAgents runs the agents of a fleet in one process. Its argument is the simulation's file. Each is an agent as it runs
// on a host, from its enrolment to its frames. What is not there is what belongs to a host: its disks are files, nobody
// writes to them, so that nothing is to be tracked or frozen, and there is nothing to survey.
func runAgents(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: want a file", agentsRole)
	}
	var s simulation
	if err := jsonfile.Read(args[0], &s); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	log := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, len(s.Servers))
	for _, server := range s.Servers {
		wg.Go(func() {
			if err := s.run(ctx, server, log.With("server", server.Name)); err != nil || ctx.Err() == nil {
				failed <- fmt.Errorf("the agent of %s ended: %w", server.Name, errors.Join(err, errExited))
			}
		})
		select {
		case <-time.After(simulatedPace):
		case err := <-failed:
			cancel()
			return err
		case <-ctx.Done():
			return nil
		}
	}
	select {
	case err := <-failed:
		cancel()
		return err
	case <-ctx.Done():
		return nil
	}
}

// run is one agent.
func (s simulation) run(ctx context.Context, server simulatedServer, log hclog.Logger) error {
	dir := filepath.Join(s.Dir, server.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(server.Token), 0o600); err != nil {
		return err
	}
	cfg := agent.Config{
		Server: server.Name, Bus: s.Bus, TokenFile: token, StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), Disks: server.Disks,
	}
	return agent.Run(ctx, cfg, agent.Deps{Logger: log, Open: func(context.Context, agent.Config, hclog.Logger) (*agent.Source, error) {
		return openSimulated(dir, server)
	}})
}

// openSimulated makes the disks of a server.
func openSimulated(dir string, server simulatedServer) (_ *agent.Source, err error) {
	s := &agent.Source{
		Host:     protocol.Host{Hostname: server.Name, BootID: "simulated", Kernel: "simulated", OS: "simulated", Cores: 2, MemoryBytes: 8 << 30, Address: "192.0.2.1"},
		Instance: "1", Tier: "simulated", Tracker: still{}, Freezer: still{},
	}
	var files []*os.File
	s.Close = func(bool) error {
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(true))
		}
	}()
	noise := make([]byte, simulatedNoise)
	for i, name := range server.Disks {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("disk%d", i)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		_, _ = rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%-31.31s%d", server.Name, i%10))).Read(noise) // never fails
		if _, err := f.WriteAt(noise, 0); err != nil {
			return nil, err
		}
		if err := f.Truncate(simulatedDisk); err != nil {
			return nil, err
		}
		s.Disks = append(s.Disks, agent.SourceDisk{
			Name: name, Identity: f.Name(), SizeBytes: simulatedDisk, GranuleBytes: simulatedGranule, Boot: i == 0, Reader: f,
		})
	}
	return s, nil
}

// still is the tracker and the freezer of disks that nobody writes to.
type still struct{}

// Drain implements [agent.Tracker].
func (still) Drain(int, func(int, uint64)) int { return 0 }

// Taint implements [agent.Tracker].
func (still) Taint() (uint64, string) { return 0, "" }

// Prove implements [agent.Tracker].
func (still) Prove(context.Context) error { return nil }

// Sync implements [agent.Freezer].
func (still) Sync(context.Context) error { return nil }

// Freeze implements [agent.Freezer].
func (still) Freeze(context.Context, time.Duration) (agent.Still, error) {
	return agent.Still{Grade: protocol.GradeFilesystem}, nil
}

// Thaw implements [agent.Freezer].
func (still) Thaw() (time.Duration, error) { return 0, nil }
