package fleet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// maxTold bounds how many mistakes one error tells: one generated wrongly is wrong ten thousand times.
const maxTold = 20

// bounded joins texts into one, the first of them when they are many.
func bounded(texts []string) string {
	if n := len(texts) - maxTold; n > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(texts[:maxTold], "; "), n)
	}
	return strings.Join(texts, "; ")
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
		Code: protocol.ProblemInvalid, Message: "the configuration is not valid: " + bounded(c.wrong),
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
		kindReplication: len(f.Replications), kindLaunch: len(f.Launches), kindCheck: len(f.Checks), kindAction: len(f.Actions),
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

// shell refuses what works by SSH where the launch block does not say how.
func (c *checker) shell(s protocol.ServerSettings, what string, needed bool) {
	l, ok := c.names[kindLaunch][s.Launch].(protocol.LaunchSettings)
	if needed && ok && l.SSH == nil {
		c.say("server %s: %s works by SSH, and launch %s has no ssh block", s.Name, what, s.Launch)
	}
}

func (c *checker) checkServers() {
	bySSH := map[string]bool{}
	for _, check := range c.fleet.Checks {
		bySSH[check.Name] = check.BySSH()
	}
	atFirstBoot := map[string]bool{}
	for _, a := range c.fleet.Actions {
		atFirstBoot[a.Name] = a.AtFirstBoot()
	}
	for _, s := range c.fleet.Servers {
		c.refer("server "+s.Name, kindReplication, s.Replication)
		c.refer("server "+s.Name, kindLaunch, s.Launch)
		for _, check := range s.Checks {
			c.refer("server "+s.Name, kindCheck, check)
			c.shell(s, "check "+check, bySSH[check])
		}
		for _, action := range s.Actions {
			c.refer("server "+s.Name, kindAction, action)
			c.shell(s, "action "+action, !atFirstBoot[action])
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
