package wave

import (
	"fmt"
	"strings"
	"time"

	"rehost/protocol"
)

// WindowGate is the name of the gate of a wave's windows.
const WindowGate = "window"

// toldOf is how many of many things an answer names.
const toldOf = 5

// Facts are what is known of a server before its cutover.
type Facts struct {
	Server   string
	Heard    bool          // its agent reports
	Lag      time.Duration // age of the oldest change that is not durable
	Backlog  time.Duration // predicted time until all is durable
	Verified time.Time     // end of the newest whole comparison without differences; zero: never
	Tested   time.Time     // when a test last passed; zero: never
	Findings protocol.FindingCount
	Actions  []protocol.ActionSettings // that run after its launch
}

// gate judges one thing of each server: why is empty where it holds.
type gate struct {
	name, want string
	asked      bool
	why        func(Facts) string
	hint       func(Facts) string
}

// Judge says of each gate of a wave whether it is open. need is how long the cutover is predicted to take.
func Judge(s protocol.GateSettings, servers []Facts, e Evidence, need time.Duration, now time.Time) []protocol.Gate {
	out := []protocol.Gate{}
	for _, g := range gates(s, now) {
		if g.asked {
			out = append(out, g.judge(servers))
		}
	}
	if s.Rehearsed > 0 {
		out = append(out, e.rehearsed(s.Rehearsed, servers, now))
	}
	out = append(out, e.approvals(s, now)...)
	if s.Quota {
		out = append(out, e.answer(QuotaGate, "the account's quotas have room for all that its servers still need"))
	}
	for _, c := range s.Commands {
		out = append(out, e.answer(CommandGate(c), "command "+strings.Join(c.Argv, " ")+" ends with 0 on the controller's machine"))
	}
	for _, p := range s.Pages {
		out = append(out, e.answer(PageGate(p), page(p)))
	}
	if len(s.Windows) > 0 {
		out = append(out, window(s.Windows, need, now))
	}
	return out
}

func gates(s protocol.GateSettings, now time.Time) []gate {
	within := func(at time.Time, limit time.Duration, never, what string) string {
		switch age := now.Sub(at); {
		case at.IsZero():
			return never
		case age > limit:
			return fmt.Sprintf("its newest %s is %s old", what, short(age))
		}
		return ""
	}
	return []gate{
		{
			"lag", "the lag of each server is at most " + short(s.Lag), s.Lag > 0,
			func(f Facts) string {
				switch {
				case !f.Heard:
					return "its agent is not heard of"
				case f.Lag > s.Lag:
					return "its lag is " + short(f.Lag)
				}
				return ""
			},
			func(f Facts) string { return "see what it waits for: rehost status " + f.Server },
		},
		{
			"verified", "each replica was compared within " + short(s.Verified), s.Verified > 0,
			func(f Facts) string {
				return within(f.Verified, s.Verified, "its replica was never compared as a whole, without differences", "comparison")
			},
			func(f Facts) string { return "compare it: rehost verify " + f.Server },
		},
		{
			"tested", "a test of each server passed within " + short(s.Tested), s.Tested > 0,
			func(f Facts) string {
				return within(f.Tested, s.Tested, "no test of it has passed", "test that passed")
			},
			func(f Facts) string { return "test it: rehost server test " + f.Server },
		},
		{
			"preflight", "preflight finds nothing", s.Clean,
			func(f Facts) string {
				if f.Findings == (protocol.FindingCount{}) {
					return ""
				}
				return "preflight found " + f.Findings.String()
			},
			func(f Facts) string { return "see what, and mend it: rehost server preflight " + f.Server },
		},
	}
}

func (g gate) judge(servers []Facts) protocol.Gate {
	out := protocol.Gate{Name: g.name, Want: g.want, Open: true}
	var why []string
	for _, f := range servers {
		if w := g.why(f); w != "" {
			if out.Open {
				out.Hint = g.hint(f)
			}
			out.Open = false
			why = append(why, f.Server+": "+w)
		}
	}
	if n := len(why) - toldOf; n > 0 {
		why = append(why[:toldOf], fmt.Sprintf("and %d servers more", n))
	}
	out.Why = strings.Join(why, "; ")
	return out
}

// QuotaGate is the name of the gate of the account's quotas.
const QuotaGate = "quota"

// CommandGate is the name of a command's gate.
func CommandGate(c protocol.CommandGateSettings) string { return "command " + c.Name }

// PageGate is the name of a page's gate.
func PageGate(p protocol.PageGateSettings) string { return "http " + p.Name }

func page(p protocol.PageGateSettings) string {
	want := fmt.Sprintf("%s answers %d", p.URL, p.Status)
	if p.Contains != "" {
		want += fmt.Sprintf(" and a page with %q", p.Contains)
	}
	return want
}

// answer is the gate of something that was asked.
func (e Evidence) answer(name, want string) protocol.Gate {
	why, asked := e.Answers[name]
	if !asked {
		why = "it was not asked"
	}
	g := protocol.Gate{Name: name, Want: want, Open: asked && why == "", Why: why}
	if !g.Open {
		g.Hint = "do what it says; it is asked again each time: rehost wave plan " + e.Wave
	}
	return g
}

func window(windows []protocol.WindowSettings, need time.Duration, now time.Time) protocol.Gate {
	out := protocol.Gate{Name: WindowGate, Want: "the cutover fits into a window"}
	begin, in, why := Fitting(windows, now, need)
	switch {
	case why != "":
		out.Why, out.Hint = why, "write another window into the wave's gates, or more servers at once, and run rehost apply"
	case begin.After(now):
		out.Opens = begin
		out.Why = "it opens " + told(in.From) + ", until " + told(in.To)
		out.Hint = "start the cutover then"
	default:
		out.Open, out.Opens = true, begin
	}
	return out
}

// told is a time for people, in the window's own zone.
func told(t time.Time) string { return t.Format("Mon 2006-01-02 15:04 MST") }
