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
func (g Graph) Next(state map[string]Outcome, closed func(server string) string) (begin []string, leftOut []Held) {
	stand := g.standing(state)
	running := map[string]int{}
	for _, n := range g.Nodes {
		if state[n.Server] == Running {
			count(running, n)
		}
	}
	for _, n := range g.Nodes {
		if state[n.Server] != Waiting {
			continue
		}
		group, over := stand.first(n.After, true)
		switch _, waits := stand.first(n.After, false); {
		case over:
			leftOut = append(leftOut, Held{n.Server, fmt.Sprintf("it comes after %s, of which %s", group, stand.broken[group])})
		case waits, !g.room(running, n), closed != nil && closed(n.Server) != "":
		default:
			begin = append(begin, n.Server)
			count(running, n)
		}
	}
	return begin, leftOut
}

func count(running map[string]int, n Node) {
	for _, l := range n.Limits {
		running[l]++
	}
}

func (g Graph) room(running map[string]int, n Node) bool {
	return !slices.ContainsFunc(n.Limits, func(l string) bool { return running[l] >= g.Limits[l] })
}

// standing is how far groups are.
type standing struct {
	open   map[string]bool   // a server of it is not done
	broken map[string]string // a server of it never will be: which, for people
}

func (g Graph) standing(state map[string]Outcome) standing {
	s := standing{map[string]bool{}, map[string]string{}}
	for _, n := range g.Nodes {
		for _, in := range n.In {
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

// first names the first of the groups that is broken, or that is open.
func (s standing) first(groups []string, broken bool) (string, bool) {
	for _, g := range groups {
		if broken && s.broken[g] != "" || !broken && s.open[g] {
			return g, true
		}
	}
	return "", false
}
