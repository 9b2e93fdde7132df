package wave

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/protocol"
)

// Circumstances are what a runbook is made of beside the configuration.
type Circumstances struct {
	Now     time.Time
	Facts   []Facts // of the wave's servers
	History History
	Steps   []string                 // of a cutover, or of a rehearsal, in order
	Over    func(server string) bool // it is cut over already
	// Rehearsal says that the runbook is of one: nothing is down, no gate is asked, and what comes before the wave need not be cut over.
	Rehearsal bool
	Evidence
}

// Runbook writes down how the cutover of a wave would go, or its rehearsal.
func Runbook(f protocol.Fleet, name string, c Circumstances) (protocol.Runbook, error) {
	plan, err := Of(f, name)
	if err != nil {
		return protocol.Runbook{}, err
	}
	whole, err := NewGraph(f)
	if err != nil {
		return protocol.Runbook{}, err
	}
	out := protocol.Runbook{Wave: name, At: c.Now, Concurrency: plan.Concurrency, Steps: []protocol.RunbookStep{}, Downtimes: []protocol.Downtime{}}
	left := slices.DeleteFunc(slices.Clone(plan.Servers), c.Over)
	if n := len(plan.Servers) - len(left); n > 0 {
		out.Notes = append(out.Notes, fmt.Sprintf("%d of %d servers are cut over already", n, len(plan.Servers)))
	}
	if group, server, unmet := whole.Unmet(left, c.Over); unmet && !c.Rehearsal {
		out.Notes = append(out.Notes, fmt.Sprintf("it comes after %s, whose server %s is not cut over", group, server))
	}
	w := &writer{fleet: f, graph: whole.Only(left, plan.Concurrency).Cutover(), c: c, words: cutoverWords(name), predicted: map[string]Prediction{}, out: &out}
	w.predict()
	gates := Settings(f, name).Gates
	if c.Rehearsal {
		gates, w.words = protocol.GateSettings{}, rehearsalWords(name)
	}
	out.Gates = Judge(gates, c.Facts, c.Evidence, w.took, c.Now)
	out.Start = c.Now
	for _, g := range out.Gates {
		out.Start = later(out.Start, g.Opens)
	}
	out.End = out.Start.Add(w.took)
	w.steps()
	if !c.Rehearsal {
		w.downtimes()
	}
	return out, nil
}

// words are what the rows of a runbook say.
type words struct {
	start, server, end, success, back string
	way                               func(unit, server string) string // back
}

func cutoverWords(wave string) words {
	return words{
		start: "start the cutover: rehost wave cutover " + wave, server: "cut over ",
		end: "look at the targets, and finalize: rehost wave finalize " + wave, success: "the targets do what the sources did",
		back: "before finalize: rehost wave revert " + wave + "; after it: none",
		way: func(unit, server string) string {
			return "a failure rolls " + unit + " back: the source goes on; after the commit: rehost server revert " + server
		},
	}
}

func rehearsalWords(wave string) words {
	return words{
		start: "start the rehearsal: rehost wave rehearse " + wave, server: "rehearse ",
		end: "terminate the instances", success: "nothing of the rehearsal is left", back: "--keep leaves them: rehost wave terminate " + wave,
		way: func(unit, _ string) string { return "a failure ends " + unit + "; the source goes on all the time" },
	}
}

// Need is how long the cutover of a wave's servers is predicted to take.
func Need(g Graph, c Circumstances) time.Duration {
	w := &writer{graph: g.Cutover(), c: c, predicted: map[string]Prediction{}}
	w.predict()
	return w.took
}

// Settings are those of a wave that there is.
func Settings(f protocol.Fleet, wave string) protocol.WaveSettings {
	i := slices.IndexFunc(f.Waves, func(w protocol.WaveSettings) bool { return w.Name == wave })
	return f.Waves[i]
}

type writer struct {
	fleet     protocol.Fleet
	graph     Graph
	c         Circumstances
	words     words
	predicted map[string]Prediction
	spans     map[string]Span
	took      time.Duration
	out       *protocol.Runbook
}

func (w *writer) predict() {
	for _, n := range w.graph.Nodes {
		w.predicted[n.Server] = w.c.History.Predict(w.c.Steps, w.facts(n.Server))
	}
	w.spans = w.graph.Timeline(func(s string) Prediction { return w.predicted[s] })
	for _, s := range w.spans {
		w.took = max(w.took, s.End)
	}
}

func (w *writer) facts(server string) Facts {
	if i := slices.IndexFunc(w.c.Facts, func(f Facts) bool { return f.Server == server }); i >= 0 {
		return w.c.Facts[i]
	}
	return Facts{Server: server}
}

// steps writes the gates, the servers and what is left to the operator in the end.
func (w *writer) steps() {
	start, end := w.out.Start, w.out.End
	begin := w.add(protocol.RunbookStep{
		What: w.words.start, Who: "operator", Begin: start, End: start, Success: w.gates(), Back: "nothing has begun",
	})
	numbers := map[string]int{}
	nodes := slices.Clone(w.graph.Nodes)
	slices.SortStableFunc(nodes, func(a, b Node) int { return int(w.spans[a.Server].Begin - w.spans[b.Server].Begin) })
	for _, n := range nodes {
		numbers[n.Server] = w.server(n, begin, numbers)
	}
	all := make([]int, 0, len(nodes))
	for _, n := range nodes {
		all = append(all, numbers[n.Server])
	}
	slices.Sort(all)
	who := "operator"
	if w.c.Rehearsal {
		who = "rehost"
	}
	w.add(protocol.RunbookStep{What: w.words.end, After: all, Who: who, Begin: end, End: end, Success: w.words.success, Back: w.words.back})
}

func (w *writer) gates() string {
	if len(w.out.Gates) == 0 {
		return "a job runs"
	}
	names := make([]string, 0, len(w.out.Gates))
	for _, g := range w.out.Gates {
		names = append(names, g.Name)
	}
	return "a job runs; gates: " + strings.Join(names, ", ")
}

func (w *writer) add(s protocol.RunbookStep) int {
	s.Number = len(w.out.Steps) + 1
	w.out.Steps = append(w.out.Steps, s)
	return s.Number
}

func (w *writer) server(n Node, begin int, numbers map[string]int) int {
	after := []int{begin}
	for _, m := range w.graph.Nodes {
		if slices.Contains(n.Launch, m.Server) || slices.ContainsFunc(n.After, func(a string) bool { return slices.Contains(m.In, a) }) {
			after = append(after, numbers[m.Server])
		}
	}
	if len(after) > 1 {
		after = after[1:]
	}
	slices.Sort(after)
	settings := protocol.ServerSettings{}
	if i := slices.IndexFunc(w.fleet.Servers, func(s protocol.ServerSettings) bool { return s.Name == n.Server }); i >= 0 {
		settings = w.fleet.Servers[i]
	}
	who, success := "rehost", "its target has started"
	if settings.Fence == "confirmed" && !w.c.Rehearsal {
		who = "rehost, after the operator has stopped its writers"
	}
	if len(settings.Checks) > 0 {
		success = "checks pass: " + strings.Join(settings.Checks, ", ")
	}
	if must := mustSucceed(w.facts(n.Server).Actions); len(must) > 0 {
		success = "actions succeed: " + strings.Join(must, ", ") + "; " + success
	}
	span := w.spans[n.Server]
	return w.add(protocol.RunbookStep{
		What: w.words.server + n.Server, Server: n.Server, After: after, Who: who, Begin: w.out.Start.Add(span.Begin), End: w.out.Start.Add(span.End), Success: success,
		Back: w.words.way(n.unit(), n.Server),
	})
}

func mustSucceed(actions []protocol.ActionSettings) (names []string) {
	for _, a := range actions {
		if a.MustSucceed {
			names = append(names, a.Name)
		}
	}
	return names
}

// downtimes writes how long each server, each application and the wave are down: of several servers from the first fence to the last check.
func (w *writer) downtimes() {
	type down struct{ from, to time.Duration }
	sums := map[string]*down{}
	var order []string
	for _, n := range w.graph.Nodes {
		span := w.spans[n.Server]
		for _, g := range n.In {
			d := sums[g]
			if d == nil {
				d = &down{from: span.Begin}
				sums[g], order = d, append(order, g)
			}
			d.from, d.to = min(d.from, span.Begin), max(d.to, span.Checked)
		}
	}
	for _, kind := range []string{"server ", "application ", "wave "} {
		for _, g := range order {
			name, ok := strings.CutPrefix(g, kind)
			if !ok {
				continue
			}
			out := protocol.Downtime{Of: g, Time: sums[g].to - sums[g].from}
			if kind == "server " {
				out.Basis = w.predicted[name].Basis
			}
			w.out.Downtimes = append(w.out.Downtimes, out)
		}
	}
}
