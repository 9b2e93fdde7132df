// Package fleet compares a configuration with the applied one and finds what is wrong with
// it. It is pure; what a changed configuration leads to is decided elsewhere.
package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// Kinds of a plan's changes.
const (
	kindReplication = "replication"
	kindLaunch      = "launch"
	kindCheck       = "check"
	kindServer      = "server"
	kindApplication = "application"
	kindWave        = "wave"
)

// kinds is the order in which a plan lists its changes: what others refer to comes first.
var kinds = []string{kindReplication, kindLaunch, kindCheck, kindServer, kindApplication, kindWave}

// Plan compares the wanted configuration with the applied one.
func Plan(applied, wanted protocol.Fleet) (protocol.Plan, error) {
	plan := protocol.Plan{Changes: []protocol.PlanChange{}}
	before, after := named(applied), named(wanted)
	for _, kind := range kinds {
		changes, err := compare(kind, before[kind], after[kind])
		if err != nil {
			return protocol.Plan{}, err
		}
		plan.Changes = append(plan.Changes, changes...)
	}
	text, err := json.Marshal(struct {
		Applied, Wanted protocol.Fleet
	}{applied, wanted})
	if err != nil {
		return protocol.Plan{}, fmt.Errorf("hash the plan: %w", err)
	}
	sum := sha256.Sum256(text)
	plan.Hash = hex.EncodeToString(sum[:8])
	return plan, nil
}

func named(f protocol.Fleet) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, kind := range kinds {
		out[kind] = map[string]any{}
	}
	for _, v := range f.Replications {
		out[kindReplication][v.Name] = v
	}
	for _, v := range f.Launches {
		out[kindLaunch][v.Name] = v
	}
	for _, v := range f.Checks {
		out[kindCheck][v.Name] = v
	}
	for _, v := range f.Servers {
		out[kindServer][v.Name] = v
	}
	for _, v := range f.Applications {
		out[kindApplication][v.Name] = v
	}
	for _, v := range f.Waves {
		out[kindWave][v.Name] = v
	}
	return out
}

func compare(kind string, before, after map[string]any) ([]protocol.PlanChange, error) {
	var out []protocol.PlanChange
	for _, name := range slices.Sorted(maps.Keys(after)) {
		old, ok := before[name]
		if !ok {
			out = append(out, protocol.PlanChange{Action: "create", Kind: kind, Name: name, Effect: createEffects[kind]})
			continue
		}
		fields, err := differences(old, after[name])
		if err != nil {
			return nil, err
		}
		if len(fields) > 0 {
			out = append(out, protocol.PlanChange{Action: "update", Kind: kind, Name: name, Fields: fields, Effect: updateEffects[kind]})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok {
			out = append(out, protocol.PlanChange{Action: "remove", Kind: kind, Name: name, Effect: removeEffects[kind]})
		}
	}
	return out, nil
}

// What a change costs, for people.
var (
	createEffects = map[string]string{kindServer: "full sync as soon as its agent reports"}
	updateEffects = map[string]string{
		kindReplication: "points and bandwidth at once, the rest for replication servers and volumes made from now on", kindLaunch: "for launches from now on",
	}
	removeEffects = map[string]string{kindServer: "its replication ends, and its staging volumes and snapshots are deleted"}
)

// differences lists the fields that differ as "field: old -> new".
func differences(old, now any) ([]string, error) {
	a, err := fieldsOf(old)
	if err != nil {
		return nil, err
	}
	b, err := fieldsOf(now)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(a)
	maps.Copy(all, b)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if string(a[k]) != string(b[k]) {
			out = append(out, fmt.Sprintf("%s: %s -> %s", k, orNone(a[k]), orNone(b[k])))
		}
	}
	return out, nil
}

func fieldsOf(v any) (map[string]json.RawMessage, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("compare settings: %w", err)
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("compare settings: %w", err)
	}
	return out, nil
}

func orNone(v json.RawMessage) string {
	if len(v) == 0 || string(v) == "null" {
		return "none"
	}
	return string(v)
}

// Validate returns everything that is wrong with a configuration, or nil.
func Validate(f protocol.Fleet) *protocol.Problem {
	c := &checker{fleet: f, names: named(f)}
	c.checkNames()
	c.checkReplications()
	c.checkServers()
	c.checkApplications()
	for _, w := range f.Waves {
		for _, a := range w.Applications {
			c.refer("wave "+w.Name, kindApplication, a)
		}
		for _, window := range w.Gates.Windows {
			if _, err := time.LoadLocation(window.Zone); err != nil {
				c.say("wave %s has a window in %q, which is no time zone", w.Name, window.Zone)
			}
		}
	}
	if _, err := wave.Order(f); err != nil {
		c.say("%v", err)
	} else if _, err := wave.NewGraph(f); err != nil {
		c.say("%v", err)
	}
	if len(c.wrong) == 0 {
		return nil
	}
	return &protocol.Problem{
		Code: protocol.ProblemInvalid, Message: "the configuration is not valid: " + strings.Join(c.wrong, "; "),
		Hint: "correct the configuration and run rehost plan again",
	}
}

// checker collects what is wrong.
type checker struct {
	fleet protocol.Fleet
	names map[string]map[string]any
	wrong []string
}

func (c *checker) say(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (c *checker) refer(from, kind, name string) {
	if _, ok := c.names[kind][name]; !ok {
		c.say("%s refers to %s %q, which is not there", from, kind, name)
	}
}

func (c *checker) checkNames() {
	f := c.fleet
	counts := map[string]int{
		kindReplication: len(f.Replications), kindLaunch: len(f.Launches), kindCheck: len(f.Checks),
		kindServer: len(f.Servers), kindApplication: len(f.Applications), kindWave: len(f.Waves),
	}
	for _, kind := range kinds {
		if counts[kind] != len(c.names[kind]) {
			c.say("two %s blocks have the same name", kind)
		}
		for _, name := range slices.Sorted(maps.Keys(c.names[kind])) {
			if err := protocol.CheckName(name); err != nil {
				c.say("%s: %v", kind, err)
			}
		}
	}
}

func (c *checker) checkReplications() {
	for _, r := range c.fleet.Replications {
		for _, w := range r.Bandwidth.Windows {
			if _, err := time.LoadLocation(w.Zone); err != nil {
				c.say("replication %s: %q is not a time zone that the controller knows", r.Name, w.Zone)
			}
		}
	}
}

func (c *checker) checkServers() {
	for _, s := range c.fleet.Servers {
		c.refer("server "+s.Name, kindReplication, s.Replication)
		c.refer("server "+s.Name, kindLaunch, s.Launch)
		for _, check := range s.Checks {
			c.refer("server "+s.Name, kindCheck, check)
		}
		if s.Fence != "" && s.Fence != FenceHook && s.Fence != FenceConfirmed {
			c.say("server %s: fence is %q, want %q or %q", s.Name, s.Fence, FenceHook, FenceConfirmed)
		}
	}
}

func (c *checker) checkApplications() {
	owner := map[string]string{}
	for _, a := range c.fleet.Applications {
		for _, s := range a.Servers {
			c.refer("application "+a.Name, kindServer, s)
			if o, ok := owner[s]; ok && o != a.Name {
				c.say("server %s is in application %s and in application %s", s, o, a.Name)
			}
			owner[s] = a.Name
		}
		for _, before := range a.After {
			c.refer("application "+a.Name, kindApplication, before)
		}
	}
	for _, s := range c.fleet.Servers {
		for _, before := range s.After {
			if c.refer("server "+s.Name, kindServer, before); owner[before] != owner[s.Name] {
				c.say("server %s comes after server %s, which is not in its application", s.Name, before)
			}
		}
	}
}

// Values of a server's fence setting.
const (
	FenceHook      = "hook"
	FenceConfirmed = "confirmed"
)

// Settings finds the settings of one server: its own, how it is staged, and how it is launched.
func Settings(f protocol.Fleet, server string) (protocol.ServerSettings, protocol.ReplicationSettings, protocol.LaunchSettings, bool) {
	i := slices.IndexFunc(f.Servers, func(s protocol.ServerSettings) bool { return s.Name == server })
	if i < 0 {
		return protocol.ServerSettings{}, protocol.ReplicationSettings{}, protocol.LaunchSettings{}, false
	}
	s := f.Servers[i]
	var r protocol.ReplicationSettings
	for _, v := range f.Replications {
		if v.Name == s.Replication {
			r = v
		}
	}
	var l protocol.LaunchSettings
	for _, v := range f.Launches {
		if v.Name == s.Launch {
			l = v
		}
	}
	return s, r, l, true
}
