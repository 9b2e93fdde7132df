package config

import (
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// order refuses what could never begin: waves, applications and servers that wait for each other.
func (r *reader) order(raw *fleetFile, f protocol.Fleet) {
	waves, applications, servers := newOrdering("wave"), newOrdering("application"), newOrdering("server")
	applicationOf, waveOf := map[string]string{}, map[string]string{}
	for i, w := range f.Waves {
		waves.add(w.Name, w.After, raw.Waves[i].After)
		for _, a := range w.Applications {
			waveOf[a] = w.Name
		}
	}
	for i, a := range f.Applications {
		applications.add(a.Name, a.After, raw.Applications[i].After)
		for _, s := range a.Servers {
			applicationOf[s] = a.Name
		}
	}
	for i, s := range f.Servers {
		servers.add(s.Name, s.After, raw.Servers[i].After)
		r.sameApplication(raw.Servers[i], s, applicationOf)
	}
	servers.refuse(r)
	if circles := []bool{applications.refuse(r), waves.refuse(r)}; slices.Contains(circles, true) {
		return
	}
	for i, a := range f.Applications {
		for _, before := range a.After {
			if late, early := waveOf[before], waveOf[a.Name]; late != early && waves.leads(late, early) {
				r.fail(raw.Applications[i].After.Expr.Range(), "Against the order of the waves",
					"application.%s is in wave.%s, and application.%s in wave.%s, which comes later. Move one of them to another wave, or remove it from \"after\".",
					a.Name, early, before, late)
			}
		}
	}
}

// sameApplication refuses an order between servers of different applications: these have one of their own.
func (r *reader) sameApplication(b serverBlock, s protocol.ServerSettings, applicationOf map[string]string) {
	for _, before := range s.After {
		if mine, its := applicationOf[s.Name], applicationOf[before]; mine != its || mine == "" {
			r.fail(b.After.Expr.Range(), "Not in the same application",
				"server.%s can come after servers of its own application only, and server.%s is not one. Write the order into the application or wave blocks.", s.Name, before)
		}
	}
}

// ordering is what comes after what, among blocks of one kind.
type ordering struct {
	kind  string
	names []string
	after map[string][]string
	at    map[string]*hcl.Attribute
}

func newOrdering(kind string) *ordering {
	return &ordering{kind: kind, after: map[string][]string{}, at: map[string]*hcl.Attribute{}}
}

func (o *ordering) add(name string, after []string, at *hcl.Attribute) {
	o.names, o.after[name], o.at[name] = append(o.names, name), after, at
}

// refuse tells of a circle, if there is one.
func (o *ordering) refuse(r *reader) bool {
	circle := o.circle()
	if circle == nil {
		return false
	}
	if a := o.at[circle[0]]; a != nil {
		r.fail(a.Expr.Range(), strings.ToUpper(o.kind[:1])+o.kind[1:]+"s wait for each other",
			"No %s of this circle could ever start: %s. Remove one of these from an \"after\".", o.kind, strings.Join(circle, " after "))
	}
	return true
}

// circle returns a circle of names, each after the next, that starts and ends with the same name; nil when there is none.
func (o *ordering) circle() []string {
	done := map[string]bool{}
	var walk func(name string, path []string) []string
	walk = func(name string, path []string) []string {
		if i := slices.Index(path, name); i >= 0 {
			return append(slices.Clone(path[i:]), name)
		}
		if done[name] {
			return nil
		}
		path = append(path, name)
		for _, next := range o.after[name] {
			if c := walk(next, path); c != nil {
				return c
			}
		}
		done[name] = true
		return nil
	}
	for _, name := range o.names {
		if c := walk(name, nil); c != nil {
			return c
		}
	}
	return nil
}

// leads says whether one comes after another one, be it over others between them.
func (o *ordering) leads(name, before string) bool {
	seen := map[string]bool{}
	for next := []string{name}; len(next) > 0; {
		at := next[0]
		next = next[1:]
		for _, a := range o.after[at] {
			if a == before {
				return true
			}
			if !seen[a] {
				seen[a] = true
				next = append(next, a)
			}
		}
	}
	return false
}
