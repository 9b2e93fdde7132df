// Package wave plans in which order servers are worked on and how many at once, judges the gates of a
// wave, and predicts how long its cutover takes. It is pure: values in, a plan or an error out.
package wave

import (
	"fmt"
	"slices"
	"strings"

	"rehost/internal/hint"
	"rehost/protocol"
)

// defaultConcurrency is how many servers of a wave are worked on at once, unless it says so.
const defaultConcurrency = 4

// Plan is the order of one wave, or of what else was selected.
type Plan struct {
	Of          protocol.Selection
	Servers     []string // in the order of the applications and of the servers in them, or as they were named
	Concurrency int
}

// Select plans the servers that a selection names.
func Select(f protocol.Fleet, of protocol.Selection) (Plan, error) {
	p := Plan{Of: of, Concurrency: defaultConcurrency}
	switch {
	case of.Wave != "" && of.Application == "" && len(of.Servers) == 0:
		return Of(f, of.Wave)
	case of.Application != "" && of.Wave == "" && len(of.Servers) == 0:
		servers, ok := serversOf(f, of.Application)
		if !ok || len(servers) == 0 {
			return Plan{}, hint.New(fmt.Sprintf("no application %q with servers in the applied configuration", of.Application), "name it in an application block, and run rehost apply")
		}
		p.Servers = slices.Clone(servers)
	case len(of.Servers) > 0 && of.Wave == "" && of.Application == "":
		for _, name := range of.Servers {
			if !slices.ContainsFunc(f.Servers, func(s protocol.ServerSettings) bool { return s.Name == name }) {
				return Plan{}, hint.New(fmt.Sprintf("no server %q in the applied configuration", name), "rehost status lists the servers")
			}
			if !slices.Contains(p.Servers, name) {
				p.Servers = append(p.Servers, name)
			}
		}
	default:
		return Plan{}, hint.New("it is not said which servers are meant", "name servers, or one application, or one wave")
	}
	return p, nil
}

// Of plans one wave of a configuration.
func Of(f protocol.Fleet, name string) (Plan, error) {
	i := slices.IndexFunc(f.Waves, func(w protocol.WaveSettings) bool { return w.Name == name })
	if i < 0 {
		return Plan{}, hint.New(fmt.Sprintf("no wave %q in the applied configuration", name), known(f))
	}
	w := f.Waves[i]
	p := Plan{Of: protocol.Selection{Wave: name}, Concurrency: concurrency(w)}
	there := map[string]bool{}
	for _, application := range w.Applications {
		servers, ok := serversOf(f, application)
		if !ok {
			return Plan{}, hint.New(fmt.Sprintf("wave %s: no application %q", name, application), "add the application block, or take the name out of the wave")
		}
		for _, s := range servers {
			if !there[s] {
				p.Servers, there[s] = append(p.Servers, s), true
			}
		}
	}
	if len(p.Servers) == 0 {
		return Plan{}, hint.New(fmt.Sprintf("wave %s has no servers", name), "name applications with servers in the wave block")
	}
	return p, nil
}

// Index names for each server the first wave that it is in.
func Index(f protocol.Fleet) map[string]string {
	out := map[string]string{}
	for _, w := range f.Waves {
		p, err := Of(f, w.Name)
		if err != nil {
			continue // it is reported when somebody wants to run it
		}
		for _, s := range p.Servers {
			if _, ok := out[s]; !ok {
				out[s] = w.Name
			}
		}
	}
	return out
}

func known(f protocol.Fleet) string {
	if len(f.Waves) == 0 {
		return "add a wave block and run rehost apply"
	}
	var names []string
	for _, w := range f.Waves {
		names = append(names, w.Name)
	}
	return "choose one of " + strings.Join(names, ", ")
}

func serversOf(f protocol.Fleet, application string) ([]string, bool) {
	for _, a := range f.Applications {
		if a.Name == application {
			return a.Servers, true
		}
	}
	return nil, false
}

// Order returns all waves so that each comes after the ones that it names, and otherwise as
// written. A cycle is an error that names its waves.
func Order(f protocol.Fleet) ([]string, error) {
	after := map[string][]string{}
	for _, w := range f.Waves {
		after[w.Name] = w.After
	}
	var out, path []string
	var visit func(name string) error
	visit = func(name string) error {
		if slices.Contains(out, name) {
			return nil
		}
		if i := slices.Index(path, name); i >= 0 {
			cycle := append(slices.Clone(path[i:]), name)
			return hint.New("waves wait for each other: "+strings.Join(cycle, " -> "), "take one of them out of an `after`")
		}
		deps, ok := after[name]
		if !ok {
			return hint.New(fmt.Sprintf("wave %s comes after %q, which is no wave", path[len(path)-1], name), "correct the name in `after`")
		}
		path = append(path, name)
		for _, d := range deps {
			if err := visit(d); err != nil {
				return err
			}
		}
		path = path[:len(path)-1]
		out = append(out, name)
		return nil
	}
	for _, w := range f.Waves {
		if err := visit(w.Name); err != nil {
			return nil, err
		}
	}
	return out, nil
}
