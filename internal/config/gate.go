package config

import (
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// How strict gates may be. An agent reports each second, and what is younger than some minutes could hardly ever be had.
const (
	minLag, maxLag = time.Second, 24 * time.Hour
	minAge, maxAge = 10 * time.Minute, 90 * 24 * time.Hour
)

// gatesBlock is what must hold before a wave's cutover begins.
type gatesBlock struct {
	At        hcl.Range         `hcl:",def_range"`
	Lag       *hcl.Attribute    `hcl:"lag,optional"`
	Verified  *hcl.Attribute    `hcl:"verified,optional"`
	Tested    *hcl.Attribute    `hcl:"tested,optional"`
	Rehearsed *hcl.Attribute    `hcl:"rehearsed,optional"`
	Preflight *hcl.Attribute    `hcl:"preflight,optional"`
	Quota     *hcl.Attribute    `hcl:"quota,optional"`
	Windows   []gateWindowBlock `hcl:"window,block"`
	Approvals []approvalBlock   `hcl:"approval,block"`
	Commands  []commandBlock    `hcl:"command,block"`
	Pages     []pageBlock       `hcl:"http,block"`
}

type gateWindowBlock struct {
	At     hcl.Range      `hcl:",def_range"`
	On     *hcl.Attribute `hcl:"on,optional"`
	Days   *hcl.Attribute `hcl:"days,optional"`
	From   *hcl.Attribute `hcl:"from"`
	To     *hcl.Attribute `hcl:"to"`
	Zone   *hcl.Attribute `hcl:"zone"`
	Except *hcl.Attribute `hcl:"except,optional"`
}

func (b *gatesBlock) read(r *reader, s *protocol.GateSettings) {
	if b == nil {
		return
	}
	r.limit(b.Lag, &s.Lag, 30*time.Second, minLag, maxLag)
	r.limit(b.Verified, &s.Verified, 7*24*time.Hour, minAge, maxAge)
	r.limit(b.Tested, &s.Tested, 3*24*time.Hour, minAge, maxAge)
	r.limit(b.Rehearsed, &s.Rehearsed, 3*24*time.Hour, minAge, maxAge)
	preflight := ""
	r.oneOf(b.Preflight, &preflight, "clean", "not-critical")
	s.Clean = preflight == "clean"
	quota := ""
	r.oneOf(b.Quota, &quota, "enough")
	s.Quota = quota == "enough"
	for _, w := range b.Windows {
		s.Windows = append(s.Windows, w.read(r))
	}
	b.people(r, s)
	b.answers(r, s)
}

// limit reads a duration that has no default; example is what a wrong one is answered with.
func (r *reader) limit(a *hcl.Attribute, to *time.Duration, example, low, high time.Duration) {
	got := example
	wrong := len(r.diags)
	if r.duration(a, &got, low, high); a != nil && len(r.diags) == wrong {
		*to = got
	}
}

func (b gateWindowBlock) read(r *reader) protocol.WindowSettings {
	var w protocol.WindowSettings
	r.need(b.From, b.At, "from", `"22:00"`)
	r.need(b.To, b.At, "to", `"04:00"`)
	r.need(b.Zone, b.At, "zone", `"Europe/Vienna"`)
	r.date(b.On, &w.On)
	r.days(b.Days, &w.Days)
	if b.On != nil && b.Days != nil {
		r.fail(b.Days.Expr.Range(), "Both a date and days", "A window is on one date (on) or comes again (days). Remove one of them.")
	}
	from, to := r.clock(b.From, &w.From), r.clock(b.To, &w.To)
	switch {
	case from && to && w.From == w.To:
		r.fail(b.To.Expr.Range(), "Empty window", "A window from %s to %s has no length. Write for example to = %q.", FormatClock(w.From), FormatClock(w.To), "04:00")
	case from && w.From == 24*time.Hour:
		r.fail(b.From.Expr.Range(), "Empty window", "A window cannot begin at the end of the day. Write from = %q, and the day after it.", "00:00")
	}
	r.zone(b.Zone, &w.Zone)
	r.blackout(b, &w)
	return w
}

// blackout reads the days on which a window stays closed.
func (r *reader) blackout(b gateWindowBlock, w *protocol.WindowSettings) {
	var dates []string
	if !r.texts(b.Except, &dates) {
		return
	}
	for _, d := range dates {
		if !r.isDate(b.Except, d) {
			return
		}
	}
	if w.Except = dates; w.On != "" && slices.Contains(dates, w.On) {
		r.fail(b.Except.Expr.Range(), "Never open", "The window is on %s only, which is a blackout day, so the cutover could never begin. Remove it from one of them.", w.On)
	}
}

// date reads a date.
func (r *reader) date(a *hcl.Attribute, to *string) {
	var text string
	if r.text(a, &text) && r.isDate(a, text) {
		*to = text
	}
}

func (r *reader) isDate(a *hcl.Attribute, text string) bool {
	if _, err := time.Parse(time.DateOnly, text); err != nil {
		r.fail(a.Expr.Range(), "Not a date", "%q is not a date. Write year, month and day, such as %q.", text, "2026-12-24")
		return false
	}
	return true
}
