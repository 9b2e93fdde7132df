package wave

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"rehost/internal/progress"
	"rehost/protocol"
)

// horizon is how many days ahead an opening is looked for: each night of a year, with those in which the clocks change.
const horizon = 400

// Opening is one time during which a window is open.
type Opening struct{ From, To time.Time }

// Openings yields the times at which a window is open and that end after now, the first one first, for 400 days.
func Openings(w protocol.WindowSettings, now time.Time) iter.Seq[Opening] {
	return func(yield func(Opening) bool) {
		zone, err := time.LoadLocation(w.Zone)
		if err != nil {
			return // no configuration has one
		}
		local := now.In(zone)
		first, last := local.AddDate(0, 0, -1), local.AddDate(0, 0, horizon) // yesterday's may go on past midnight
		if w.On != "" {
			on, err := time.ParseInLocation(time.DateOnly, w.On, zone)
			if err != nil {
				return
			}
			first, last = on, on
		}
		for day := first; !day.After(last); day = day.AddDate(0, 0, 1) {
			if o := opening(w, day); allowed(w, day) && o.To.After(now) && o.To.After(o.From) && !yield(o) {
				return
			}
		}
	}
}

// opening is the one that begins on a day. An hour that a change of the clocks leaves out may make it empty.
func opening(w protocol.WindowSettings, day time.Time) Opening {
	out := Opening{clock(day, w.From), clock(day, w.To)}
	if w.To > w.From {
		return out
	}
	next := day.AddDate(0, 0, 1)
	if out.To = clock(next, w.To); slices.Contains(w.Except, next.Format(time.DateOnly)) {
		out.To = clock(next, 0) // nothing is done on a blackout day
	}
	return out
}

// allowed says whether an opening may begin on a day.
func allowed(w protocol.WindowSettings, day time.Time) bool {
	if w.On == "" && len(w.Days) > 0 && !slices.Contains(w.Days, day.Weekday()) {
		return false
	}
	return !slices.Contains(w.Except, day.Format(time.DateOnly))
}

func clock(day time.Time, at time.Duration) time.Time {
	return time.Date(day.Year(), day.Month(), day.Day(), 0, int(at/time.Minute), 0, 0, day.Location())
}

// Fitting returns the first opening that work of a length need can be begun in, now or later, and when. Without windows it is now, and
// the opening has no end. why says what is wrong when there is none.
func Fitting(windows []protocol.WindowSettings, now time.Time, need time.Duration) (begin time.Time, in Opening, why string) {
	if len(windows) == 0 {
		return now, Opening{From: now}, ""
	}
	var longest time.Duration
	for _, w := range windows {
		for o := range Openings(w, now) {
			from := later(o.From, now)
			left := o.To.Sub(from)
			longest = max(longest, left)
			if left < need {
				continue
			}
			if begin.IsZero() || from.Before(begin) {
				begin, in = from, o
			}
			break
		}
	}
	switch {
	case !begin.IsZero():
		return begin, in, ""
	case longest == 0:
		return begin, in, "its window is over, and none comes again"
	default:
		return begin, in, fmt.Sprintf("no window is long enough: %s are predicted, and the longest one has %s", short(need), short(longest))
	}
}

// Closes is when the last one of the windows that are open now closes; zero: none is open.
func Closes(windows []protocol.WindowSettings, now time.Time) time.Time {
	var out time.Time
	for _, w := range windows {
		for o := range Openings(w, now) {
			if o.From.After(now) {
				break
			}
			out = later(out, o.To)
		}
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func short(d time.Duration) string { return progress.Short(d) }
