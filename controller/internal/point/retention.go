package point

import (
	"cmp"
	"slices"
	"time"

	"rehost/protocol"
)

// Policy says which complete points of the schedule stay.
type Policy struct {
	Newest int                      // so many in any case, at least one
	Tiers  []protocol.RetentionTier // and one of each period of each tier, the first that there is
}

// Surplus returns the complete points of the schedule that a policy does not keep now, but for those that are pinned or in
// use. It does not matter when and how often it is asked: what goes would never have been kept again, and
// what stays is what would stay if it was asked for the first time. For the periods lie fixed, and the first point of one
// stays its first for as long as the period counts.
func Surplus(policy Policy, points []protocol.Point, used map[string]bool, now time.Time) []protocol.Point {
	var scheduled []protocol.Point
	for _, pt := range points {
		if pt.State == protocol.PointComplete && pt.Origin == protocol.OriginSchedule {
			scheduled = append(scheduled, pt)
		}
	}
	slices.SortFunc(scheduled, func(a, b protocol.Point) int { return cmp.Or(a.Ordered.Compare(b.Ordered), cmp.Compare(a.ID, b.ID)) })
	keep := map[string]bool{}
	for _, pt := range scheduled[max(0, len(scheduled)-max(policy.Newest, 1)):] {
		keep[pt.ID] = true
	}
	for _, tier := range policy.Tiers {
		firsts(tier, scheduled, now, keep)
	}
	return slices.DeleteFunc(scheduled, func(pt protocol.Point) bool { return keep[pt.ID] || pt.Pinned || used[pt.ID] })
}

// firsts marks the first point of each period, until the period as a whole is too old: otherwise the next point of an
// old period would become its first. The controller's own clock counts: a source's may be wrong.
func firsts(tier protocol.RetentionTier, scheduled []protocol.Point, now time.Time, keep map[string]bool) {
	seen := map[time.Time]bool{}
	for _, pt := range scheduled {
		period := pt.Ordered.Truncate(max(tier.Every, 1))
		if !seen[period] && now.Sub(period) <= tier.Every+tier.For {
			keep[pt.ID] = true
		}
		seen[period] = true
	}
}
