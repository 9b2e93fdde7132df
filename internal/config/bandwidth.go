package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// What a bandwidth may be. Less than the lowest would not even carry a source's own bookkeeping.
const (
	minRate = 1_000_000 / 8           // 1 Mbit/s
	maxRate = 100 * 1_000_000_000 / 8 // 100 Gbit/s
)

// weekdays are the words for days, from Sunday as [time.Weekday] has it.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

type bandwidthBlock struct {
	At      hcl.Range      `hcl:",def_range"`
	Server  *hcl.Attribute `hcl:"server,optional"`
	Site    *hcl.Attribute `hcl:"site,optional"`
	Windows []windowBlock  `hcl:"window,block"`
}

type windowBlock struct {
	At     hcl.Range      `hcl:",def_range"`
	Days   *hcl.Attribute `hcl:"days,optional"`
	From   *hcl.Attribute `hcl:"from"`
	To     *hcl.Attribute `hcl:"to"`
	Zone   *hcl.Attribute `hcl:"zone"`
	Server *hcl.Attribute `hcl:"server,optional"`
	Site   *hcl.Attribute `hcl:"site,optional"`
}

func (b *bandwidthBlock) read(r *reader, s *protocol.BandwidthSettings) {
	if b == nil {
		return
	}
	r.rate(b.Server, &s.Server)
	r.rate(b.Site, &s.Site)
	for _, w := range b.Windows {
		s.Windows = append(s.Windows, w.read(r))
	}
}

func (b windowBlock) read(r *reader) protocol.BandwidthWindow {
	var w protocol.BandwidthWindow
	r.need(b.From, b.At, "from", `"08:00"`)
	r.need(b.To, b.At, "to", `"18:00"`)
	r.need(b.Zone, b.At, "zone", `"Europe/Vienna"`)
	r.days(b.Days, &w.Days)
	from, to := r.clock(b.From, &w.From), r.clock(b.To, &w.To)
	if from && to && w.From == w.To {
		r.fail(b.To.Expr.Range(), "Empty window", "A window from %s to %s is empty. Write for example to = %q, or leave the window out.", FormatClock(w.From), FormatClock(w.To), "18:00")
	}
	r.zone(b.Zone, &w.Zone)
	r.rate(b.Server, &w.Server)
	r.rate(b.Site, &w.Site)
	return w
}

// rate reads a bandwidth; "0" is unlimited.
func (r *reader) rate(a *hcl.Attribute, to *int64) {
	var text string
	if !r.text(a, &text) {
		return
	}
	n, err := ParseRate(text)
	switch {
	case err != nil:
		r.fail(a.Expr.Range(), "Invalid bandwidth", "%s. Write a number and a unit (kbit/s, Mbit/s, Gbit/s, KiB/s, MiB/s, GiB/s), such as %q.", err, rateGuess(text))
	case n != 0 && (n < minRate || n > maxRate):
		r.fail(a.Expr.Range(), "Bandwidth out of range", "%s is %s to %s, or \"0\" for no limit. Write for example %q.", a.Name, FormatRate(minRate), FormatRate(maxRate), "50 Mbit/s")
	default:
		*to = n
	}
}

// zone reads a time zone.
func (r *reader) zone(a *hcl.Attribute, to *string) {
	if !r.text(a, to) {
		return
	}
	if _, err := time.LoadLocation(*to); err != nil || *to == "" || *to == "Local" {
		r.fail(a.Expr.Range(), "Unknown time zone", "%q is not a time zone. Write an IANA name, such as %q or %q.", *to, "Europe/Vienna", "UTC")
	}
}

// days reads a list of days of the week.
func (r *reader) days(a *hcl.Attribute, to *[]time.Weekday) {
	var words []string
	if !r.texts(a, &words) {
		return
	}
	for _, word := range words {
		day := -1
		for i, known := range weekdays {
			if strings.EqualFold(word, known) {
				day = i
			}
		}
		if day < 0 {
			r.fail(a.Expr.Range(), "Unknown day", "%q is not a day. Write days such as %s.", word, quoted(weekdays))
			return
		}
		*to = append(*to, time.Weekday(day))
	}
}

// FormatDay is the inverse of reading a day; what is none is given as its number.
func FormatDay(d time.Weekday) string {
	if d < 0 || int(d) >= len(weekdays) {
		return strconv.Itoa(int(d))
	}
	return weekdays[d]
}

// clock reads a time of the day such as "08:00"; "24:00" is the end of the day.
func (r *reader) clock(a *hcl.Attribute, to *time.Duration) bool {
	var text string
	if !r.text(a, &text) {
		return false
	}
	if text == "24:00" {
		*to = 24 * time.Hour
		return true
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		r.fail(a.Expr.Range(), "Invalid time of day", "%q is not a time of day. Write hours and minutes, such as %q.", text, "08:00")
		return false
	}
	*to = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	return true
}

// FormatClock is the inverse of reading a time of the day, which is given as the time since midnight.
func FormatClock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}
