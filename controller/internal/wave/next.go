package wave

import (
	"fmt"
	"slices"
)

// Held is a server that will not begin, with the reason.
type Held struct{ Server, Why string }

// Next says which servers are to begin now and which never will, given where each stands. closed says why a server must not
// begin yet although its turn has come, or ""; nil: nothing is closed. Nothing is begun in both answers, and what is
// left out has to be recorded before Next is asked again.
//
// The servers of a unit begin together: when there is room for all of them, or when nothing else runs. Those of a unit that has begun
// begin at once, since the others wait for them.
func (g Graph) Next(state map[string]Outcome, closed func(server string) string) (begin []string, leftOut []Held) {
	stand := g.standing(state)
	running, begun, units := map[string]int{}, map[string]bool{}, map[string][]Node{}
	for _, n := range g.Nodes {
		switch state[n.Server] {
		case Running:
			count(running, n)
			begun[n.unit()] = true
		case Waiting:
			units[n.unit()] = append(units[n.unit()], n)
		case Done, Failed, LeftOut:
		}
	}
	for _, n := range g.Nodes {
		unit := units[n.unit()]
		delete(units, n.unit())
		if len(unit) == 0 {
			continue
		}
		group, over, waits := stand.of(unit)
		switch {
		case over && group == n.unit():
			leftOut = append(leftOut, held(unit, fmt.Sprintf("of its %s, %s", group, stand.broken[group]))...)
		case over:
			leftOut = append(leftOut, held(unit, fmt.Sprintf("it comes after %s, of which %s", group, stand.broken[group]))...)
		case begun[n.unit()] || !waits && g.room(running, unit) && !shut(unit, closed):
			for _, m := range unit {
				begin = append(begin, m.Server)
				count(running, m)
			}
		}
	}
	return begin, leftOut
}

func held(unit []Node, why string) []Held {
	out := make([]Held, 0, len(unit))
	for _, n := range unit {
		out = append(out, Held{n.Server, why})
	}
	return out
}

func shut(unit []Node, closed func(server string) string) bool {
	return closed != nil && slices.ContainsFunc(unit, func(n Node) bool { return closed(n.Server) != "" })
}

func count(running map[string]int, n Node) {
	for _, l := range n.Limits {
		running[l]++
	}
}

func (g Graph) room(running map[string]int, unit []Node) bool {
	more := map[string]int{}
	for _, n := range unit {
		count(more, n)
	}
	for l, n := range more {
		if running[l] > 0 && running[l]+n > g.Limits[l] {
			return false
		}
	}
	return true
}

// standing is how far groups are.
type standing struct {
	open   map[string]bool   // a server of it is not done
	broken map[string]string // a server of it never will be: which, for people
}

func (g Graph) standing(state map[string]Outcome) standing {
	s := standing{map[string]bool{}, map[string]string{}}
	for _, n := range g.Nodes {
		for _, in := range n.groups() {
			switch state[n.Server] {
			case Done:
			case Failed:
				s.broken[in] = "server " + n.Server + " has failed"
			case LeftOut:
				s.broken[in] = "server " + n.Server + " was left out"
			case Waiting, Running:
				s.open[in] = true
			}
		}
	}
	return s
}

// of says whether a unit has to wait, or never begins because of a group.
func (s standing) of(unit []Node) (group string, over, waits bool) {
	if s.broken[unit[0].unit()] != "" {
		return unit[0].unit(), true, false
	}
	for _, n := range unit {
		for _, g := range n.After {
			if s.broken[g] != "" {
				return g, true, false
			}
			waits = waits || s.open[g]
		}
	}
	return "", false, waits
}
