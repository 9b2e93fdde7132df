package wave

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rehost/protocol"
)

// moment is one line of the simulated programme's log.
type moment struct {
	at     time.Time
	server string
	to     Outcome
	why    string
	facts  Facts         // of the server then
	takes  time.Duration // as predicted
}

// programme is a fleet that is cut over wave by wave on a clock of its own. Servers fail, lag behind and lose their tests at random.
type programme struct {
	r       *rand.Rand
	fleet   protocol.Fleet
	graph   Graph
	waveOf  map[string]protocol.WaveSettings
	members map[string][]string // servers by wave
	takes   map[string]time.Duration
	facts   map[string]Facts
	state   map[string]Outcome
	ends    map[string]time.Time
	now     time.Time
	log     []moment
}

const (
	simulatedWaves   = 40
	simulatedServers = 2000
)

func newProgramme(t *testing.T, r *rand.Rand) *programme {
	t.Helper()
	f := anyFleet(r, 16, simulatedWaves, 10, simulatedServers/simulatedWaves/10)
	for i := range f.Waves {
		night := protocol.WindowSettings{From: 22 * time.Hour, To: 6 * time.Hour, Zone: "Europe/Vienna", Except: []string{"2026-12-24", "2026-12-25"}}
		if i%3 == 0 {
			night.Days = []time.Weekday{time.Friday, time.Saturday}
		}
		f.Waves[i].Gates = protocol.GateSettings{Lag: 30 * time.Second, Tested: 14 * 24 * time.Hour, Windows: []protocol.WindowSettings{night}}
		f.Waves[i].Concurrency = 5 + i%10
	}
	for i := range f.Replications {
		f.Replications[i].Concurrency *= 6
	}
	g, err := NewGraph(f)
	if err != nil {
		t.Fatal(err)
	}
	p := &programme{
		r: r, fleet: f, graph: g.Cutover(), waveOf: map[string]protocol.WaveSettings{}, members: map[string][]string{}, takes: map[string]time.Duration{},
		facts: map[string]Facts{}, state: map[string]Outcome{}, ends: map[string]time.Time{}, now: time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC),
	}
	for _, w := range f.Waves {
		plan, err := Of(f, w.Name)
		if err != nil {
			t.Fatal(err)
		}
		p.members[w.Name] = plan.Servers
		for _, s := range plan.Servers {
			p.waveOf[s] = w
			p.takes[s] = time.Duration(5+r.IntN(40)) * time.Minute
			p.facts[s] = Facts{Server: s, Heard: true}
		}
	}
	return p
}

// verdict is what the gates say of one server now.
func (p *programme) verdict(server string) string {
	for _, g := range Judge(p.waveOf[server].Gates, []Facts{p.facts[server]}, Evidence{}, p.takes[server], p.now) {
		if !g.Open {
			return g.Name + ": " + g.Why
		}
	}
	return ""
}

func (p *programme) note(server string, to Outcome, why string) {
	p.state[server] = to
	p.log = append(p.log, moment{p.now, server, to, why, p.facts[server], p.takes[server]})
}

// run goes on until nothing runs and nothing will.
func (p *programme) run(t *testing.T) {
	t.Helper()
	for over := p.now.AddDate(1, 0, 0); p.now.Before(over); p.now = p.now.Add(10 * time.Minute) {
		for _, a := range p.fleet.Applications {
			p.decide(a)
		}
		p.disturb()
		begin, held := p.graph.Next(p.state, p.verdict)
		for _, h := range held {
			p.note(h.Server, LeftOut, h.Why)
		}
		for _, s := range begin {
			p.note(s, Running, "")
			p.ends[s] = p.now.Add(p.takes[s])
		}
		if len(p.log) > 0 && !slices.ContainsFunc(p.fleet.Servers, func(s protocol.ServerSettings) bool { return p.state[s.Name] == Waiting || p.state[s.Name] == Running }) {
			return
		}
	}
	t.Fatal("the programme does not end within a year")
}

// decide ends an application when all of its servers are checked: all of them or none.
func (p *programme) decide(a protocol.ApplicationSettings) {
	failed := ""
	for _, s := range a.Servers {
		if p.state[s] != Running || p.ends[s].After(p.now) {
			return
		}
		if p.r.IntN(100) == 0 {
			failed = s
		}
	}
	for _, s := range a.Servers {
		switch failed {
		case "":
			p.note(s, Done, "")
		case s:
			p.note(s, Failed, "a check has failed")
		default:
			p.note(s, LeftOut, "rolled back: a check of "+failed+" has failed")
		}
	}
}

// disturb lets some servers lag behind, and others be tested.
func (p *programme) disturb() {
	for range 20 {
		f := &p.fleet.Servers[p.r.IntN(len(p.fleet.Servers))]
		facts := p.facts[f.Name]
		facts.Lag = time.Duration(p.r.IntN(40)) * time.Second
		facts.Tested = p.now.Add(-time.Duration(p.r.IntN(48)) * time.Hour)
		p.facts[f.Name] = facts
	}
}

// TestAProgrammeOf2000ServersEndsAndKeepsItsGates lets it run, and has its log judged by a checker that knows nothing of graphs, windows and gates.
func TestAProgrammeOf2000ServersEndsAndKeepsItsGates(t *testing.T) {
	p := newProgramme(t, seed(t))
	p.run(t)
	c := newChecker(t, p)
	for _, m := range p.log {
		c.check(m)
	}
	c.wantWholeApplications(p.fleet)
	count := map[Outcome]int{}
	for _, s := range p.fleet.Servers {
		count[c.state[s.Name]]++
	}
	if count[Waiting]+count[Running] > 0 || count[Done] == 0 || count[Failed] == 0 || count[LeftOut] == 0 {
		t.Errorf("not each way to end is there, or a server has not ended: %v", count)
	}
	t.Logf("%d events in %s: %d done, %d failed, %d left out", len(p.log), p.now.Sub(p.log[0].at), count[Done], count[Failed], count[LeftOut])
}

// checker reads the log of a programme.
type checker struct {
	t       *testing.T
	before  map[string][][]string // by server: groups that must be done
	waveOf  map[string]protocol.WaveSettings
	members map[string][]string
	siteOf  map[string]string
	sites   map[string]int // servers at once; 0: as many as there are
	zone    *time.Location
	state   map[string]Outcome
}

func newChecker(t *testing.T, p *programme) *checker {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Vienna")
	if err != nil {
		t.Fatal(err)
	}
	c := &checker{t: t, before: map[string][][]string{}, waveOf: p.waveOf, members: p.members, zone: zone, state: map[string]Outcome{}, siteOf: map[string]string{}, sites: map[string]int{}}
	for _, s := range p.fleet.Servers {
		c.siteOf[s.Name] = s.Replication
	}
	for _, r := range p.fleet.Replications {
		c.sites[r.Name] = r.Concurrency
	}
	applications := map[string][]string{}
	for _, a := range p.fleet.Applications {
		applications[a.Name] = a.Servers
	}
	for _, s := range p.fleet.Servers {
		c.before[s.Name] = nil // those of its own application are only launched before
	}
	for _, a := range p.fleet.Applications {
		for _, s := range a.Servers {
			for _, b := range a.After {
				c.before[s] = append(c.before[s], applications[b])
			}
			for _, b := range p.waveOf[s].After {
				c.before[s] = append(c.before[s], p.members[b])
			}
		}
	}
	return c
}

// check takes one line of the log.
func (c *checker) check(m moment) {
	c.t.Helper()
	was := c.state[m.server]
	c.state[m.server] = m.to
	switch m.to {
	case Running:
		if was != Waiting {
			c.t.Errorf("%s begins twice", m.server)
		}
		c.began(m)
	case LeftOut:
		if m.why == "" || was != Running && (was != Waiting || !c.brokenBefore(m.server)) {
			c.t.Errorf("%s is left out without a cause: %q", m.server, m.why)
		}
	case Done, Failed:
		if was != Running || (m.to == Failed) != (m.why != "") {
			c.t.Errorf("%s ends, and did not run, or has no reason: %q", m.server, m.why)
		}
	case Waiting:
		c.t.Errorf("%s waits again", m.server)
	}
}

// wantWholeApplications: all servers of an application are done, or none.
func (c *checker) wantWholeApplications(f protocol.Fleet) {
	c.t.Helper()
	for _, a := range f.Applications {
		for _, s := range a.Servers {
			if (c.state[s] == Done) != (c.state[a.Servers[0]] == Done) {
				c.t.Errorf("of application %s, %s is %d and %s is %d", a.Name, s, c.state[s], a.Servers[0], c.state[a.Servers[0]])
			}
		}
	}
}

func (c *checker) began(m moment) {
	c.t.Helper()
	for _, group := range c.before[m.server] {
		for _, s := range group {
			if c.state[s] != Done {
				c.t.Errorf("%s begins before %s is done", m.server, s)
			}
		}
	}
	w, running := c.waveOf[m.server], 0
	for _, s := range c.members[w.Name] {
		if c.state[s] == Running {
			running++
		}
	}
	if running > w.Concurrency {
		c.t.Errorf("%d servers of wave %s at once, which may have %d", running, w.Name, w.Concurrency)
	}
	site, running := c.siteOf[m.server], 0
	for s, o := range c.state {
		if o == Running && c.siteOf[s] == site {
			running++
		}
	}
	if most := c.sites[site]; most > 0 && running > most {
		c.t.Errorf("%d servers of site %s at once, which may have %d", running, site, most)
	}
	if m.facts.Lag > 30*time.Second || m.facts.Tested.IsZero() || m.at.Sub(m.facts.Tested) > 14*24*time.Hour {
		c.t.Errorf("%s begins with a lag of %s, tested %s", m.server, m.facts.Lag, m.facts.Tested)
	}
	c.inNight(m, w)
}

// inNight says whether the server begins and is to end in one night from 22:00 to 06:00, on a day on which it may.
func (c *checker) inNight(m moment, w protocol.WaveSettings) {
	c.t.Helper()
	begin, end := m.at.In(c.zone), m.at.Add(m.takes).In(c.zone)
	night := begin.Add(-6 * time.Hour) // its day is the one on which the night begins
	if begin.Hour() >= 6 && begin.Hour() < 22 || end.Hour() >= 6 && end.Hour() < 22 && (end.Hour() != 6 || end.Minute() != 0) {
		c.t.Errorf("%s from %s to %s is not in the night", m.server, begin, end)
	}
	if days := w.Gates.Windows[0].Days; len(days) > 0 && night.Weekday() != time.Friday && night.Weekday() != time.Saturday {
		c.t.Errorf("%s begins on %s", m.server, night.Weekday())
	}
	for _, instant := range []time.Time{begin, end.Add(-time.Second)} {
		if instant.Month() == time.December && (instant.Day() == 24 || instant.Day() == 25) {
			c.t.Errorf("%s from %s to %s is on a blackout day", m.server, begin, end)
		}
	}
}

func (c *checker) brokenBefore(server string) bool {
	for _, group := range c.before[server] {
		for _, s := range group {
			if c.state[s] == Failed || c.state[s] == LeftOut {
				return true
			}
		}
	}
	return false
}
