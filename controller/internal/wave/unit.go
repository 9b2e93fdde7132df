package wave

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Unit is what a cutover does as one: the servers of an application, or a server that is in none.
type Unit struct {
	Application string // empty: a server by itself
	Servers     []string
}

func (u Unit) group() string {
	if u.Application == "" {
		return serverGroup(u.Servers[0])
	}
	return applicationGroup(u.Application)
}

// Units are those of the graph's servers, in the order of the graph. Servers for which alone says true are by themselves.
func (g Graph) Units(alone func(server string) bool) []Unit {
	var out []Unit
	at := map[string]int{}
	for _, n := range g.Nodes {
		name := n.application()
		i, ok := at[name]
		switch {
		case name == "" || alone(n.Server):
			out = append(out, Unit{Servers: []string{n.Server}})
		case ok:
			out[i].Servers = append(out[i].Servers, n.Server)
		default:
			at[name] = len(out)
			out = append(out, Unit{Application: name, Servers: []string{n.Server}})
		}
	}
	return out
}

func (n Node) application() string {
	for _, in := range n.In {
		if name, ok := strings.CutPrefix(in, applicationGroup("")); ok {
			return name
		}
	}
	return ""
}

// Together is the graph for a cutover of these units: the servers of each begin together, and what they come after among themselves is the
// order of their launches.
func (g Graph) Together(units []Unit) Graph {
	of := map[string]Unit{}
	for _, u := range units {
		for _, s := range u.Servers {
			of[s] = u
		}
	}
	out := Graph{Limits: g.Limits, Nodes: slices.Clone(g.Nodes)}
	for i, n := range out.Nodes {
		u, ok := of[n.Server]
		if !ok {
			continue
		}
		n.Unit, n.Launch = u.group(), nil
		var after []string
		for _, a := range n.After {
			if before, ok := strings.CutPrefix(a, serverGroup("")); ok && slices.Contains(u.Servers, before) {
				n.Launch = append(n.Launch, before)
			} else {
				after = append(after, a)
			}
		}
		n.After = after
		out.Nodes[i] = n
	}
	return out
}

// Cutover is the graph for a cutover of all of its servers.
func (g Graph) Cutover() Graph {
	return g.Together(g.Units(func(string) bool { return false }))
}

// Span is a time since the begin of a job.
type Span struct {
	Begin   time.Duration // of the fence, in a cutover
	Checked time.Duration // the end of the checks
	End     time.Duration
}

// unitSpans says when the servers of a unit are checked and done when it begins at a time: one point when all are fenced, images side by side as
// far as the limits go, launches in their order, and the rest when all are checked. The nodes are in the order of the graph.
func (g Graph) unitSpans(unit []Node, begin time.Duration, of func(server string) Prediction) map[string]Span {
	point := begin
	for _, n := range unit {
		point = max(point, begin+of(n.Server).Point)
	}
	free := map[string][]time.Duration{} // by limit, when each of the places for work is
	out, commit := map[string]Span{}, begin
	for _, n := range unit {
		p := of(n.Server)
		launch := point
		for _, l := range n.Limits {
			if free[l] == nil {
				free[l] = slices.Repeat([]time.Duration{point}, max(1, min(g.Limits[l], len(unit))))
			}
			launch = max(launch, slices.Min(free[l]))
		}
		launch += p.Ready - p.Point
		for _, l := range n.Limits {
			free[l][slices.Index(free[l], slices.Min(free[l]))] = launch
		}
		for _, before := range n.Launch {
			launch = max(launch, out[before].Checked)
		}
		out[n.Server] = Span{Begin: begin, Checked: launch + p.Down - p.Ready}
		commit = max(commit, out[n.Server].Checked)
	}
	for s, span := range out {
		span.End = commit + of(s).Whole - of(s).Down
		out[s] = span
	}
	return out
}

// Timeline is when each server begins and ends when all goes well: what [Graph.Next] would do, as fast as it may.
func (g Graph) Timeline(of func(server string) Prediction) map[string]Span {
	out, state := map[string]Span{}, map[string]Outcome{}
	for now := time.Duration(0); ; {
		g.begin(now, state, of, out)
		next, running := time.Duration(0), false
		for s, o := range state {
			if o == Running && (!running || out[s].End < next) {
				next, running = out[s].End, true
			}
		}
		if !running {
			return out
		}
		now = next
		for s, o := range state {
			if o == Running && out[s].End == now {
				state[s] = Done
			}
		}
	}
}

// begin lets begin what may, at a time.
func (g Graph) begin(now time.Duration, state map[string]Outcome, of func(server string) Prediction, out map[string]Span) {
	servers, _ := g.Next(state, nil)
	units := map[string][]Node{}
	for _, n := range g.Nodes {
		if slices.Contains(servers, n.Server) {
			state[n.Server] = Running
			units[n.unit()] = append(units[n.unit()], n)
		}
	}
	for _, unit := range units {
		maps.Copy(out, g.unitSpans(unit, now, of))
	}
}
