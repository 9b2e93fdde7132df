package wave

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"rehost/internal/hint"
	"rehost/protocol"
)

// Outcome is where a server stands on its way through a job.
type Outcome int

// Outcomes. The last two are those after which nothing that comes after the server may begin.
const (
	Waiting Outcome = iota
	Running
	Done
	Failed
	LeftOut
)

// Node is a server in a [Graph].
type Node struct {
	Server string
	// In are the groups that the server is in: itself, its application, its wave.
	In []string
	// After are the groups that must be done, with all of their servers, before the server begins.
	After []string
	// Limits are the names of the limits that it counts for while it runs.
	Limits []string
	// Unit is what begins as a whole; empty: the server by itself. Launch are the servers of it that are launched and checked before.
	Unit   string
	Launch []string
}

func (n Node) unit() string {
	if n.Unit == "" {
		return serverGroup(n.Server)
	}
	return n.Unit
}

// groups are those that the server keeps open until it is done.
func (n Node) groups() []string {
	if n.Unit == "" || slices.Contains(n.In, n.Unit) {
		return n.In
	}
	return append(slices.Clone(n.In), n.Unit) // the configuration has changed since the job began
}

// Graph says what comes after what, and how many servers run at once.
type Graph struct {
	Nodes  []Node         // each after all that it comes after, and otherwise as the configuration has them
	Limits map[string]int // servers at once
}

// Names of groups. A wave's is the name of its limit too.
func serverGroup(name string) string      { return "server " + name }
func applicationGroup(name string) string { return "application " + name }
func waveGroup(name string) string        { return "wave " + name }

// siteLimit is the name of a replication block's limit.
func siteLimit(replication string) string { return "site " + replication }

// NewGraph makes the graph of a whole fleet. A circle is an error that names it.
func NewGraph(f protocol.Fleet) (Graph, error) {
	g := Graph{Limits: map[string]int{}}
	nodes := map[string]*Node{}
	for _, r := range f.Replications {
		if r.Concurrency > 0 {
			g.Limits[siteLimit(r.Name)] = r.Concurrency
		}
	}
	for _, s := range f.Servers {
		n := &Node{Server: s.Name, In: []string{serverGroup(s.Name)}, After: groups(serverGroup, s.After)}
		if site := siteLimit(s.Replication); g.Limits[site] > 0 {
			n.Limits = []string{site}
		}
		nodes[s.Name] = n
	}
	for _, a := range f.Applications {
		for _, s := range a.Servers {
			if n := nodes[s]; n != nil {
				n.join(applicationGroup(a.Name), groups(applicationGroup, a.After))
			}
		}
	}
	for _, w := range f.Waves {
		g.Limits[waveGroup(w.Name)] = concurrency(w)
		plan, err := Of(f, w.Name)
		if err != nil {
			continue // it has no servers, so nothing waits for it
		}
		for _, s := range plan.Servers {
			if n := nodes[s]; n != nil {
				n.join(waveGroup(w.Name), groups(waveGroup, w.After))
				n.Limits = append(n.Limits, waveGroup(w.Name))
			}
		}
	}
	for _, s := range inOrder(f) {
		g.Nodes = append(g.Nodes, *nodes[s])
	}
	return g.sorted()
}

func (n *Node) join(group string, after []string) {
	n.In = append(n.In, group)
	for _, a := range after {
		if !slices.Contains(n.After, a) {
			n.After = append(n.After, a)
		}
	}
}

func groups(kind func(string) string, names []string) []string {
	out := make([]string, 0, len(names))
	for _, n := range names {
		out = append(out, kind(n))
	}
	return out
}

func concurrency(w protocol.WaveSettings) int {
	if w.Concurrency <= 0 {
		return defaultConcurrency
	}
	return w.Concurrency
}

// inOrder lists the servers wave by wave and application by application, and then those that are in none.
func inOrder(f protocol.Fleet) []string {
	known, out := map[string]bool{}, []string{}
	for _, s := range f.Servers {
		known[s.Name] = true
	}
	add := func(names []string) {
		for _, n := range names {
			if known[n] {
				known[n] = false
				out = append(out, n)
			}
		}
	}
	for _, w := range f.Waves {
		if plan, err := Of(f, w.Name); err == nil {
			add(plan.Servers)
		}
	}
	for _, a := range f.Applications {
		add(a.Servers)
	}
	for _, s := range f.Servers {
		add([]string{s.Name})
	}
	return out
}

// Only is the part of the graph that has these servers, of which at most so many run at once, whatever their waves say; the limits of sites stay. What is
// not in it is not waited for, and servers that the graph does not know come after nothing.
func (g Graph) Only(servers []string, atOnce int) Graph {
	const limit = "job"
	wanted := map[string]bool{}
	for _, s := range servers {
		wanted[s] = true
	}
	out := Graph{Limits: map[string]int{limit: max(1, atOnce)}}
	maps.Copy(out.Limits, g.Limits)
	for _, n := range g.Nodes {
		if wanted[n.Server] {
			wanted[n.Server] = false
			n.Limits = append(slices.DeleteFunc(slices.Clone(n.Limits), func(l string) bool { return slices.Contains(n.In, l) }), limit)
			out.Nodes = append(out.Nodes, n)
		}
	}
	for _, s := range servers {
		if wanted[s] {
			wanted[s] = false
			out.Nodes = append(out.Nodes, Node{Server: s, In: []string{serverGroup(s)}, Limits: []string{limit}})
		}
	}
	return out
}

// Unmet names a group, and a server of it that is not among servers and not done, for which one of servers has to wait. ok is false when there is none.
func (g Graph) Unmet(servers []string, done func(server string) bool) (group, server string, ok bool) {
	members := g.members()
	for _, n := range g.Nodes {
		if !slices.Contains(servers, n.Server) {
			continue
		}
		for _, a := range n.After {
			for _, m := range members[a] {
				if before := g.Nodes[m].Server; !slices.Contains(servers, before) && !done(before) {
					return a, before, true
				}
			}
		}
	}
	return "", "", false
}

// members lists the servers of each group, by their places in Nodes.
func (g Graph) members() map[string][]int {
	out := map[string][]int{}
	for i, n := range g.Nodes {
		for _, in := range n.In {
			out[in] = append(out[in], i)
		}
	}
	return out
}

// sorted brings the nodes into an order in which each follows what it comes after, and that is otherwise the one that they have.
func (g Graph) sorted() (Graph, error) {
	left := map[string]int{} // servers of the group that are not placed yet
	for _, n := range g.Nodes {
		for _, in := range n.In {
			left[in]++
		}
	}
	out := Graph{Limits: g.Limits, Nodes: make([]Node, 0, len(g.Nodes))}
	for rest := g.Nodes; len(rest) > 0; {
		var later []Node
		for _, n := range rest {
			if slices.ContainsFunc(n.After, func(a string) bool { return left[a] > 0 }) {
				later = append(later, n)
				continue
			}
			for _, in := range n.In {
				left[in]--
			}
			out.Nodes = append(out.Nodes, n)
		}
		if len(later) == len(rest) {
			return Graph{}, circle(Graph{Nodes: rest})
		}
		rest = later
	}
	return out, nil
}

// circle is the error for nodes each of which waits for another one: it follows them until one comes back.
func circle(g Graph) error {
	members := g.members()
	next := func(at int) (string, int) {
		for _, a := range g.Nodes[at].After {
			if len(members[a]) > 0 {
				return a, members[a][0]
			}
		}
		return "", -1
	}
	var path []int
	for at := 0; at >= 0; _, at = next(at) {
		if i := slices.Index(path, at); i >= 0 {
			return toldCircle(g, append(path[i:], at), next)
		}
		path = append(path, at)
	}
	return hint.New("servers wait for each other", "take one of them out of an `after`")
}

func toldCircle(g Graph, path []int, next func(int) (string, int)) error {
	var b strings.Builder
	b.WriteString("server " + g.Nodes[path[0]].Server)
	for i, at := range path[:len(path)-1] {
		group, _ := next(at)
		b.WriteString(" comes after " + group)
		if to := g.Nodes[path[i+1]].Server; group != serverGroup(to) {
			fmt.Fprintf(&b, " with server %s, which", to)
		} else if i < len(path)-2 {
			b.WriteString(", which")
		}
	}
	text := strings.TrimSuffix(b.String(), ", which")
	return hint.New("waiting for each other: "+text, "take one of them out of an `after`")
}
