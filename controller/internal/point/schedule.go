package point

import (
	"cmp"
	"slices"
	"time"

	"rehost/protocol"
)

const (
	// firstAgain is the pause before the second attempt at a point; it doubles up to lastAgain.
	firstAgain = time.Second
	lastAgain  = 30 * time.Second
	// againWithin is for how long after its end a point is still worth another attempt: nobody waits for it any more.
	againWithin = 5 * time.Minute
	// firstBackoff is the pause of the schedule after a point whose attempts have all failed; it doubles up to the
	// schedule's own pace.
	firstBackoff = 30 * time.Second
)

// Due says whether the schedule wants a point of a server now: the newest one that was taken, by whomever, is older
// than every, none is on its way, and the last failure is long enough ago. points are all of the server.
func Due(every time.Duration, points []protocol.Point, now time.Time) bool {
	if every <= 0 {
		return false
	}
	var taken time.Time
	for _, pt := range points {
		if Active(pt) {
			return false
		}
		if pt.State != protocol.PointLost && pt.Taken.After(taken) {
			taken = pt.Taken
		}
	}
	if now.Sub(taken) < every {
		return false
	}
	failures := map[string]bool{} // by first attempt
	var last time.Time
	for _, pt := range points {
		if pt.State == protocol.PointLost && pt.Origin == protocol.OriginSchedule && pt.Over.After(taken) {
			failures[first(pt)] = true
			if pt.Over.After(last) {
				last = pt.Over
			}
		}
	}
	return len(failures) == 0 || now.Sub(last) >= doubled(firstBackoff, len(failures), every)
}

// Again returns the failed points that another attempt is to be made for now. points are all of one server.
func Again(points []protocol.Point, now time.Time) []protocol.Point {
	var out []protocol.Point
	for _, pt := range points {
		ended := now.Sub(pt.Over)
		if pt.State != protocol.PointLost || !pt.Passing || pt.Origin == protocol.OriginJob || attempt(pt) >= pt.Attempts ||
			ended < doubled(firstAgain, attempt(pt), lastAgain) || ended > againWithin {
			continue
		}
		superseded := slices.ContainsFunc(points, func(o protocol.Point) bool {
			return first(o) == first(pt) && attempt(o) > attempt(pt) ||
				pt.Origin == protocol.OriginSchedule && o.State != protocol.PointLost && o.Ordered.After(pt.Ordered)
		})
		if !superseded {
			out = append(out, pt)
		}
	}
	return out
}

// doubled is start for n = 1, and twice as much for each further n, up to a limit.
func doubled(start time.Duration, n int, limit time.Duration) time.Duration {
	for ; n > 1 && start < limit; n-- {
		start *= 2
	}
	return min(start, limit)
}

// attempt counts from 1.
func attempt(pt protocol.Point) int { return max(pt.Attempt, 1) }

// first is the id of a point's first attempt.
func first(pt protocol.Point) string { return cmp.Or(pt.First, pt.ID) }
