package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"text/tabwriter"
	"time"
)

const (
	// settle is how long a fleet is left alone after its last server has become CONTINUOUS, and rest is how long it is
	// then watched: several background jobs of the Go runtime and of the bus have a period of 10 s and more.
	settle = 20 * time.Second
	rest   = 40 * time.Second
	// asks is how often rehost status is run.
	asks = 5
)

// What a controller may need for a fleet, whatever its size.
const (
	statusLimit     = 1.0 // seconds
	controllerCores = 0.5 // at rest
	controllerMiB   = 512.0
	// growth bounds what a server may need more in a large fleet than in a small one.
	growth = 1.25
)

// fleetFigures are those of one fleet.
type fleetFigures struct {
	servers int
	staged  float64          // seconds from the first agent's start until all servers were CONTINUOUS
	roles   map[string]usage // at rest; CPU in seconds per second
	status  []float64        // seconds of each rehost status
	command float64          // CPU seconds of one of them
	asked   float64          // CPU seconds of the controller for one of them, about
}

// fleets are the fleets of this run, small ones first, so that the growth from one to the next can be told.
type fleets []fleetFigures

// of measures a fleet of so many servers.
func (f *fleets) of(servers int) func(context.Context, *env, string) ([]result, error) {
	return func(ctx context.Context, e *env, name string) ([]result, error) {
		r, err := newFleet(ctx, e, servers)
		if err != nil {
			return nil, err
		}
		e.later(r.clean)
		figures, err := r.measure(ctx)
		if err != nil {
			return nil, err
		}
		*f = append(*f, figures)
		f.table()
		controller := figures.roles[controllerProcess]
		results := []result{
			within(name+"-status", "s", figures.status, statusLimit),
			within(name+"-cpu", "cores", []float64{controller.cpu}, controllerCores),
			within(name+"-memory", "MiB", []float64{controller.peak}, controllerMiB),
		}
		return append(results, f.linear(name)...), nil
	}
}

// linear compares what each server of the newest fleet costs with what one of the first fleet does. Of memory it is what
// each further server costs: a program has some for itself.
func (f *fleets) linear(name string) []result {
	all := *f
	if len(all) < 2 {
		return nil
	}
	first, last := all[0], all[len(all)-1]
	results := []result{cost(name+"-cpu-linear", "ms/s", []float64{first.perServer(last).cpu}, []float64{first.perServer(first).cpu}, 1/growth)}
	if len(all) > 2 {
		results = append(results, cost(name+"-memory-linear", "KiB", []float64{all[1].further(last)}, []float64{first.further(all[1])}, 1/growth))
	}
	return results
}

// measure looks at a fleet of which all servers are CONTINUOUS.
func (r *fleet) measure(ctx context.Context) (fleetFigures, error) {
	f := fleetFigures{servers: r.servers, staged: r.staged.Seconds()}
	say("  all %d servers are CONTINUOUS after %.0f s; at rest for %s", r.servers, f.staged, settle+rest)
	if err := pause(ctx, settle); err != nil {
		return f, err
	}
	var err error
	if f.roles, err = r.usedIn(func() error { return pause(ctx, rest) }); err != nil {
		return f, err
	}
	for role, u := range f.roles {
		u.cpu /= rest.Seconds()
		f.roles[role] = u
	}
	controller := f.roles[controllerProcess]
	say("  controller at rest: %.3f cores, %.0f MiB of memory, %.0f MiB at the most", controller.cpu, controller.rss, controller.peak)
	if err := r.allContinuous(ctx); err != nil {
		return f, err
	}
	during, err := r.usedIn(func() error {
		for range asks {
			began := time.Now()
			cmd := exec.CommandContext(ctx, r.env.bin+"/rehost", "status", "-o", "json", "--context", r.operator())
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("rehost status: %w: %s", err, out)
			}
			f.status = append(f.status, time.Since(began).Seconds())
			f.command += (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds() / asks
		}
		return nil
	})
	if err != nil {
		return f, err
	}
	var took float64
	for _, s := range f.status {
		took += s
	}
	f.asked = (during[controllerProcess].cpu - f.roles[controllerProcess].cpu*took) / asks
	say("  rehost status of all: %.2f s median, %.2f s worst; %.2f s of CPU in the command, about %.2f s in the controller",
		median(f.status), slices.Max(f.status), f.command, f.asked)
	return f, nil
}

// table prints what each role needs for a server.
func (f *fleets) table() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "servers\trole\tprocesses\tMiB\tKiB per server\tpeak MiB\tcores at rest\tms/s per server\tthreads\t")
	for _, one := range *f {
		for _, role := range fleetProcesses {
			u, n := one.roles[role], float64(one.servers)
			_, _ = fmt.Fprintf(w, "%d\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.3f\t%.3f\t%d\t\n",
				one.servers, role, u.processes, u.rss, u.rss*1024/n, u.peak, u.cpu, u.cpu*1000/n, u.threads)
		}
	}
	_ = w.Flush()
}

// ours sums up what the programs need that run for a fleet on our side: the controller, with the bus, and the replication servers.
func (f fleetFigures) ours() usage { return f.roles[controllerProcess].plus(f.roles[replicaProcess]) }

// perServer returns a server's share: milliseconds of CPU per second.
func (fleetFigures) perServer(of fleetFigures) usage {
	u := of.ours()
	u.cpu *= 1000 / float64(of.servers)
	return u
}

// further returns the KiB of memory of each server that a larger fleet has more.
func (f fleetFigures) further(larger fleetFigures) float64 {
	return (larger.ours().rss - f.ours().rss) * 1024 / float64(larger.servers-f.servers)
}

// usedIn returns what each role needed while something was done.
func (r *fleet) usedIn(do func() error) (map[string]usage, error) {
	before, err := r.usage()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(do(), r.alive()); err != nil {
		return nil, err
	}
	after, err := r.usage()
	for role, u := range after {
		u.cpu -= before[role].cpu
		after[role] = u
	}
	return after, err
}
