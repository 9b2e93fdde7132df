package fleet

import (
	"fmt"
	"slices"
	"strings"

	"rehost/protocol"
)

// Target narrows a wanted configuration to the targets (kind.name) and what they refer to: the rest stays as it is applied.
// Without targets it is the wanted one.
func Target(applied, wanted protocol.Fleet, targets []string) (protocol.Fleet, *protocol.Problem) {
	if len(targets) == 0 {
		return wanted, nil
	}
	n := narrowing{wanted: index(wanted), chosen: map[string]map[string]bool{}}
	before := index(applied)
	for _, t := range targets {
		kind, name, _ := strings.Cut(t, ".")
		no := func(message, hint string) *protocol.Problem {
			return &protocol.Problem{Code: protocol.ProblemInvalid, Message: message, Hint: hint}
		}
		if !slices.Contains([]string{kindServer, kindApplication, kindWave}, kind) || name == "" {
			return protocol.Fleet{}, no(fmt.Sprintf("%q is no target", t), "write server.NAME, application.NAME or wave.NAME")
		}
		if !n.wanted.has(kind, name) && !before.has(kind, name) {
			return protocol.Fleet{}, no(fmt.Sprintf("target %s is neither in the configuration nor applied", t), "correct the name; rehost status lists servers and waves")
		}
		n.choose(kind, name)
	}
	return protocol.Fleet{
		Replications: mixed(applied.Replications, wanted.Replications, func(v protocol.ReplicationSettings) string { return v.Name }, n.chosen[kindReplication]),
		Launches:     mixed(applied.Launches, wanted.Launches, func(v protocol.LaunchSettings) string { return v.Name }, n.chosen[kindLaunch]),
		Servers:      mixed(applied.Servers, wanted.Servers, func(v protocol.ServerSettings) string { return v.Name }, n.chosen[kindServer]),
		Applications: mixed(applied.Applications, wanted.Applications, func(v protocol.ApplicationSettings) string { return v.Name }, n.chosen[kindApplication]),
		Waves:        mixed(applied.Waves, wanted.Waves, func(v protocol.WaveSettings) string { return v.Name }, n.chosen[kindWave]),
		Checks:       mixed(applied.Checks, wanted.Checks, func(v protocol.CheckSettings) string { return v.Name }, n.chosen[kindCheck]),
		Actions:      mixed(applied.Actions, wanted.Actions, func(v protocol.ActionSettings) string { return v.Name }, n.chosen[kindAction]),
	}, nil
}

// mixed is what is applied, with the chosen blocks as they are wanted: changed, added or gone.
func mixed[T any](applied, wanted []T, name func(T) string, chosen map[string]bool) []T {
	out := []T{}
	for _, v := range applied {
		if !chosen[name(v)] {
			out = append(out, v)
		}
	}
	for _, v := range wanted {
		if chosen[name(v)] {
			out = append(out, v)
		}
	}
	return out
}

// indexed is a configuration by names.
type indexed struct {
	names        map[string]map[string]any
	servers      map[string]protocol.ServerSettings
	applications map[string]protocol.ApplicationSettings
	waves        map[string]protocol.WaveSettings
}

func index(f protocol.Fleet) indexed {
	i := indexed{
		names: named(f), servers: map[string]protocol.ServerSettings{},
		applications: map[string]protocol.ApplicationSettings{}, waves: map[string]protocol.WaveSettings{},
	}
	for _, s := range f.Servers {
		i.servers[s.Name] = s
	}
	for _, a := range f.Applications {
		i.applications[a.Name] = a
	}
	for _, w := range f.Waves {
		i.waves[w.Name] = w
	}
	return i
}

func (i indexed) has(kind, name string) bool {
	_, ok := i.names[kind][name]
	return ok
}

// narrowing collects the blocks that targets need.
type narrowing struct {
	wanted indexed
	chosen map[string]map[string]bool // by kind and name
}

// choose takes a block and what it refers to.
func (n *narrowing) choose(kind, name string) {
	if n.chosen[kind][name] {
		return
	}
	if n.chosen[kind] == nil {
		n.chosen[kind] = map[string]bool{}
	}
	n.chosen[kind][name] = true
	all := func(kind string, names ...string) {
		for _, name := range names {
			n.choose(kind, name)
		}
	}
	switch kind {
	case kindServer:
		if s, ok := n.wanted.servers[name]; ok {
			all(kindReplication, s.Replication)
			all(kindLaunch, s.Launch)
			all(kindCheck, s.Checks...)
			all(kindAction, s.Actions...)
			all(kindServer, s.After...)
		}
	case kindApplication:
		all(kindServer, n.wanted.applications[name].Servers...)
		all(kindApplication, n.wanted.applications[name].After...)
	case kindWave:
		all(kindApplication, n.wanted.waves[name].Applications...)
		all(kindWave, n.wanted.waves[name].After...)
	}
}
