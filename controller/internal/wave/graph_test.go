package wave

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

// seed is random, printed, and repeated with REHOST_SEED.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	if s := os.Getenv("REHOST_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("REHOST_SEED=%d", n)
	return rand.New(rand.NewPCG(n, 1))
}

// anyFleet is a random fleet without a circle: whatever comes after something comes after what has a lower number, of the
// four before it each with a chance of one in odds.
func anyFleet(r *rand.Rand, odds, waves, applications, servers int) protocol.Fleet {
	var f protocol.Fleet
	earlier := func(kind string, i int) []string {
		var out []string
		for j := max(0, i-4); j < i; j++ {
			if r.IntN(odds) == 0 {
				out = append(out, fmt.Sprintf("%s%d", kind, j))
			}
		}
		return out
	}
	for i := range 3 { // the first one without a limit
		f.Replications = append(f.Replications, protocol.ReplicationSettings{Name: fmt.Sprintf("r%d", i), Concurrency: i * (1 + r.IntN(3))})
	}
	server, application := 0, 0
	for w := range waves {
		ws := protocol.WaveSettings{Name: fmt.Sprintf("w%d", w), After: earlier("w", w), Concurrency: 1 + r.IntN(5)}
		for range applications {
			as := protocol.ApplicationSettings{Name: fmt.Sprintf("a%d", application), After: earlier("a", application)}
			for i := range servers {
				ss := protocol.ServerSettings{Name: fmt.Sprintf("s%d", server), Replication: fmt.Sprintf("r%d", r.IntN(3))}
				for j := range i {
					if r.IntN(3) == 0 {
						ss.After = append(ss.After, fmt.Sprintf("s%d", server-i+j))
					}
				}
				f.Servers, as.Servers = append(f.Servers, ss), append(as.Servers, ss.Name)
				server++
			}
			f.Applications, ws.Applications = append(f.Applications, as), append(ws.Applications, as.Name)
			application++
		}
		f.Waves = append(f.Waves, ws)
	}
	// The order in which blocks are written must not matter.
	r.Shuffle(len(f.Servers), func(i, j int) { f.Servers[i], f.Servers[j] = f.Servers[j], f.Servers[i] })
	r.Shuffle(len(f.Waves), func(i, j int) { f.Waves[i], f.Waves[j] = f.Waves[j], f.Waves[i] })
	return f
}

// model says the same as a Graph, slowly: straight from the configuration, one server at a time.
type model struct{ f protocol.Fleet }

func (m model) application(server string) (a protocol.ApplicationSettings) {
	for _, a := range m.f.Applications {
		if slices.Contains(a.Servers, server) {
			return a
		}
	}
	return a
}

func (m model) wave(server string) (w protocol.WaveSettings) {
	for _, w := range m.f.Waves {
		if slices.Contains(w.Applications, m.application(server).Name) {
			return w
		}
	}
	return w
}

// before lists the servers that must be done before one.
func (m model) before(server string) []string {
	var out []string
	for _, s := range m.f.Servers {
		if s.Name == server {
			out = append(out, s.After...)
		}
	}
	for _, s := range m.f.Servers {
		if slices.Contains(m.application(server).After, m.application(s.Name).Name) || slices.Contains(m.wave(server).After, m.wave(s.Name).Name) {
			out = append(out, s.Name)
		}
	}
	return out
}

// may says whether a server may begin, or never will.
func (m model) may(server string, state map[string]Outcome) (may, never bool) {
	may = true
	for _, b := range m.before(server) {
		may = may && state[b] == Done
		never = never || state[b] == Failed || state[b] == LeftOut
	}
	running, most := m.running(state), m.limits(server)
	for l, n := range most {
		may = may && running[l] < n
	}
	return may, never
}

// limits are those of a server's wave and site.
func (m model) limits(server string) map[string]int {
	out := map[string]int{m.wave(server).Name: m.wave(server).Concurrency}
	for _, s := range m.f.Servers {
		for _, site := range m.f.Replications {
			if s.Name == server && s.Replication == site.Name && site.Concurrency > 0 {
				out[site.Name] = site.Concurrency
			}
		}
	}
	return out
}

// running is how many servers run, by what limits them.
func (m model) running(state map[string]Outcome) map[string]int {
	out := map[string]int{}
	for s, o := range state {
		if o == Running {
			for l := range m.limits(s) {
				out[l]++
			}
		}
	}
	return out
}

func TestNextIsWhatASlowModelSays(t *testing.T) {
	r := seed(t)
	for range 60 {
		f := anyFleet(r, 3, 1+r.IntN(4), 1+r.IntN(3), 1+r.IntN(4))
		g, err := NewGraph(f)
		if err != nil {
			t.Fatal(err)
		}
		m, state := model{f}, map[string]Outcome{}
		for {
			begin, held := g.Next(state, nil)
			for _, h := range held {
				if _, never := m.may(h.Server, state); !never {
					t.Fatalf("%s is left out (%s), and nothing before it has failed", h.Server, h.Why)
				}
			}
			for _, s := range begin { // one by one: each takes room from those behind it
				if may, never := m.may(s, state); !may || never {
					t.Fatalf("%s begins, which the model refuses", s)
				}
				state[s] = Running
			}
			for _, s := range f.Servers {
				may, never := m.may(s.Name, state)
				isHeld := slices.ContainsFunc(held, func(h Held) bool { return h.Server == s.Name })
				if state[s.Name] == Waiting && (may && !never || never != isHeld) {
					t.Fatalf("%s: held %v, and the model says may %v, never %v", s.Name, isHeld, may, never)
				}
			}
			for _, h := range held {
				state[h.Server] = LeftOut
			}
			if len(begin)+len(held) == 0 && !finishOne(r, f, state) {
				break
			}
		}
		for _, s := range f.Servers {
			if o := state[s.Name]; o == Waiting || o == Running {
				t.Fatalf("%s never ends: %d", s.Name, o)
			}
		}
	}
}

// TestTheServersOfAnApplicationBeginTogether lets applications of random fleets run, and has the order judged from the configuration.
func TestTheServersOfAnApplicationBeginTogether(t *testing.T) {
	r := seed(t)
	for range 60 {
		f := anyFleet(r, 3, 1+r.IntN(4), 1+r.IntN(3), 1+r.IntN(4))
		g, err := NewGraph(f)
		if err != nil {
			t.Fatal(err)
		}
		m, state, g := model{f}, map[string]Outcome{}, g.Cutover()
		for {
			begin, held := g.Next(state, nil)
			wantTogether(t, m, state, begin)
			for _, s := range begin {
				state[s] = Running
			}
			for _, h := range held {
				state[h.Server] = LeftOut
			}
			if len(begin)+len(held) == 0 && !finishOne(r, f, state) {
				break
			}
		}
		for _, s := range f.Servers {
			if o := state[s.Name]; o == Waiting || o == Running {
				t.Fatalf("%s never ends: %d", s.Name, o)
			}
		}
	}
}

// wantTogether checks what begins: whole applications, each after those before it, with room for all of its servers or with nothing beside it.
func wantTogether(t *testing.T, m model, state map[string]Outcome, begin []string) {
	t.Helper()
	running := m.running(state)
	for len(begin) > 0 {
		a := m.application(begin[0])
		size, more, most := len(a.Servers), map[string]int{}, map[string]int{}
		for _, s := range begin[:min(size, len(begin))] {
			for l, n := range m.limits(s) {
				more[l]++
				most[l] = n
			}
			if !slices.Contains(a.Servers, s) || state[s] != Waiting {
				t.Fatalf("%s begins in the midst of application %s: %v", s, a.Name, begin)
			}
			for _, b := range m.before(s) {
				if !slices.Contains(a.Servers, b) && state[b] != Done {
					t.Fatalf("%s begins before %s is done", s, b)
				}
			}
		}
		for l, n := range more {
			if beside := running[l]; len(begin) < size || beside > 0 && beside+n > most[l] {
				t.Fatalf("application %s begins with %d of %d servers, %d of them of %s beside %d, which may have %d", a.Name, len(begin), size, n, l, beside, most[l])
			}
			running[l] += n
		}
		begin = begin[size:]
	}
}

// TestAnApplicationThatHasBegunIsNotHeldUp: those that wait for the others have begun, in an earlier process.
func TestAnApplicationThatHasBegunIsNotHeldUp(t *testing.T) {
	f := protocol.Fleet{
		Servers:      []protocol.ServerSettings{{Name: "db-1"}, {Name: "web-1", After: []string{"db-1"}}, {Name: "web-2"}, {Name: "mx-1"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"db-1", "web-1", "web-2"}}, {Name: "mail", Servers: []string{"mx-1"}}},
	}
	g, err := NewGraph(f)
	if err != nil {
		t.Fatal(err)
	}
	g = g.Only([]string{"mx-1", "db-1", "web-1", "web-2"}, 2).Cutover()
	for state, want := range map[string]string{
		"": "db-1 web-1 web-2", "mx-1": "", "db-1": "web-1 web-2", "mx-1 db-1": "web-1 web-2",
	} {
		running := map[string]Outcome{}
		for s := range strings.FieldsSeq(state) {
			running[s] = Running
		}
		if begin, _ := g.Next(running, nil); strings.Join(begin, " ") != want {
			t.Errorf("while %q run, %v begin, want %q", state, begin, want)
		}
	}
	begin, held := g.Next(map[string]Outcome{"db-1": LeftOut}, nil)
	if len(begin) != 1 || len(held) != 2 || held[0].Why != "of its application shop, server db-1 was left out" {
		t.Errorf("with db-1 left out %v begin, and %v are held", begin, held)
	}
}

// finishOne ends one of the running servers, well or not.
func finishOne(r *rand.Rand, f protocol.Fleet, state map[string]Outcome) bool {
	var running []string
	for _, s := range f.Servers {
		if state[s.Name] == Running {
			running = append(running, s.Name)
		}
	}
	if len(running) == 0 {
		return false
	}
	state[running[r.IntN(len(running))]] = []Outcome{Done, Done, Done, Done, Done, Done, Done, Failed}[r.IntN(8)]
	return true
}

func TestUnmetIsToldOfWhatIsOutsideOfTheJob(t *testing.T) {
	f := protocol.Fleet{
		Servers:      []protocol.ServerSettings{{Name: "db-1"}, {Name: "web-1", After: []string{"db-1"}}, {Name: "mx-1"}},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"web-1", "db-1"}, After: []string{"mail"}}, {Name: "mail", Servers: []string{"mx-1"}}},
	}
	g, err := NewGraph(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, n := range g.Nodes {
		names = append(names, n.Server)
	}
	if got := strings.Join(names, " "); got != "mx-1 db-1 web-1" {
		t.Errorf("order %s", got)
	}
	for _, tt := range []struct{ servers, done, want string }{
		{"web-1", "mx-1", "server db-1 db-1"},
		{"web-1 db-1", "", "application mail mx-1"},
		{"web-1", "db-1 mx-1", ""},
		{"mx-1", "", ""},
	} {
		group, server, ok := g.Unmet(strings.Fields(tt.servers), func(s string) bool { return slices.Contains(strings.Fields(tt.done), s) })
		if got := strings.TrimSpace(group + " " + server); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s after %q: got %q, want %q", tt.servers, tt.done, got, tt.want)
		}
	}
}

func TestACircleOverWavesAndApplicationsIsNamed(t *testing.T) {
	f := protocol.Fleet{
		Servers: []protocol.ServerSettings{{Name: "a"}, {Name: "b"}, {Name: "c"}},
		Applications: []protocol.ApplicationSettings{
			{Name: "one", Servers: []string{"a"}, After: []string{"two"}}, {Name: "two", Servers: []string{"b"}}, {Name: "three", Servers: []string{"c"}, After: []string{"one"}},
		},
		Waves: []protocol.WaveSettings{{Name: "first", Applications: []string{"one"}}, {Name: "second", Applications: []string{"two"}, After: []string{"third"}}, {Name: "third", Applications: []string{"three"}}},
	}
	_, err := NewGraph(f)
	want := "waiting for each other: server a comes after application two with server b, which comes after wave third with server c, which comes after application one with server a"
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestAJobKeepsToItsSites: a job has the limits of its sites beside its own, and none of its waves; the prediction counts with them.
func TestAJobKeepsToItsSites(t *testing.T) {
	f := protocol.Fleet{
		Replications: []protocol.ReplicationSettings{{Name: "slow", Concurrency: 1}, {Name: "fast"}},
		Servers: []protocol.ServerSettings{
			{Name: "s1", Replication: "slow"}, {Name: "s2", Replication: "slow"}, {Name: "f1", Replication: "fast"}, {Name: "f2", Replication: "fast"},
		},
		Applications: []protocol.ApplicationSettings{{Name: "shop", Servers: []string{"s1", "s2", "f1", "f2"}}},
		Waves:        []protocol.WaveSettings{{Name: "one", Applications: []string{"shop"}, Concurrency: 2}},
	}
	g, err := NewGraph(f)
	if err != nil {
		t.Fatal(err)
	}
	g = g.Only([]string{"s1", "s2", "f1", "f2"}, 4)
	if begin, _ := g.Next(nil, nil); strings.Join(begin, " ") != "s1 f1 f2" {
		t.Errorf("%v begin", begin)
	}
	// Each is fenced and at its point after a minute, ready to be launched after five more, and checked after another one.
	spans := g.Cutover().Timeline(func(string) Prediction {
		return Prediction{Point: time.Minute, Ready: 6 * time.Minute, Down: 7 * time.Minute, Whole: 7 * time.Minute}
	})
	for server, want := range map[string]time.Duration{"s1": 7 * time.Minute, "f1": 7 * time.Minute, "f2": 7 * time.Minute, "s2": 12 * time.Minute} {
		if got := spans[server].Checked; got != want {
			t.Errorf("%s is checked after %s, want %s", server, got, want)
		}
	}
}
