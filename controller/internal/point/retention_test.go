package point

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rehost/protocol"
)

const day = 24 * time.Hour

// usual is the default policy.
var usual = Policy{Newest: 1, Tiers: []protocol.RetentionTier{{Every: 10 * time.Minute, For: time.Hour}, {Every: time.Hour, For: day}, {Every: day, For: 7 * day}}}

func idsOf(points []protocol.Point) []string {
	ids := []string{}
	for _, pt := range points {
		ids = append(ids, pt.ID)
	}
	return ids
}

func TestSurplus(t *testing.T) {
	points := []protocol.Point{taken("job", protocol.OriginJob, minutes(-100)), taken("asked", protocol.OriginRequest, minutes(-90))}
	for i := range 5 {
		points = append(points, taken(fmt.Sprintf("s%d", i), protocol.OriginSchedule, minutes(i)))
	}
	points = append(points, failed("lost", 1, t0))
	tier := func(every, span int) []protocol.RetentionTier {
		return []protocol.RetentionTier{{Every: time.Duration(every) * time.Minute, For: time.Duration(span) * time.Minute}}
	}
	pinned := slices.Clone(points)
	pinned[2].Pinned = true
	for _, c := range []struct {
		policy Policy
		points []protocol.Point
		used   map[string]bool
		now    int
		want   string
	}{
		{Policy{Newest: 6}, points, nil, 5, "[]"},
		{Policy{Newest: 5}, points, nil, 5, "[]"},
		{Policy{Newest: 3}, points, nil, 5, "[s0 s1]"},
		{Policy{Newest: 3}, points, map[string]bool{"s0": true}, 5, "[s1]"},
		{Policy{Newest: 3}, pinned, nil, 5, "[s1]"},
		{Policy{}, points, nil, 5000, "[s0 s1 s2 s3]"}, // the newest one, however old
		{Policy{Tiers: tier(2, 60)}, points, nil, 5, "[s1 s3]"},
		{Policy{Tiers: tier(2, 3)}, points, nil, 5, "[s1 s3]"},
		{Policy{Tiers: tier(2, 3)}, points, nil, 6, "[s0 s1 s3]"},
		{Policy{Tiers: tier(60, 60)}, points, nil, 120, "[s1 s2 s3]"},
		{Policy{Tiers: tier(60, 60)}, points, nil, 121, "[s0 s1 s2 s3]"},
	} {
		if got := fmt.Sprint(idsOf(Surplus(c.policy, c.points, c.used, minutes(c.now)))); got != c.want {
			t.Errorf("%+v at %d: got %s, want %s", c.policy, c.now, got, c.want)
		}
	}
}

// TestRetention lets the default schedule run for two weeks.
func TestRetention(t *testing.T) {
	var have []protocol.Point
	for i := range 14 * 24 * 6 {
		now := t0.Add(time.Duration(i) * 10 * time.Minute)
		have = append(have, taken(fmt.Sprint(i), protocol.OriginSchedule, now))
		gone := idsOf(Surplus(usual, have, nil, now))
		have = slices.DeleteFunc(have, func(pt protocol.Point) bool { return slices.Contains(gone, pt.ID) })
	}
	ages := []time.Duration{}
	now := have[len(have)-1].Ordered
	for _, pt := range slices.Backward(have) {
		ages = append(ages, now.Sub(pt.Ordered))
	}
	// An hour in steps of 10 minutes, a day in hours, a week in days; the first of an hour or a day counts once only.
	if len(ages) < 7+22+6 || len(ages) > 8+24+7 || ages[6] != time.Hour || ages[len(ages)-1] < 7*day || ages[len(ages)-1] > 8*day {
		t.Errorf("%d points are left: %v", len(ages), ages)
	}
}

// TestRetentionHoldsWhateverHappens runs random schedules under random policies and looks at every step.
func TestRetentionHoldsWhateverHappens(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		policy := randomPolicy(rng)
		var all, have []protocol.Point
		used := map[string]bool{}
		now := t0
		for i := range 300 {
			now = now.Add(time.Duration(rng.Int64N(int64(20 * time.Minute))))
			if rng.IntN(50) == 0 {
				now = now.Add(time.Duration(rng.Int64N(int64(30 * time.Hour)))) // the source was away
			}
			pt := taken(fmt.Sprintf("%04d", i), protocol.OriginSchedule, now)
			pt.Pinned = rng.IntN(40) == 0
			used[pt.ID] = rng.IntN(40) == 0
			all, have = append(all, pt), append(have, pt)
			if rng.IntN(3) == 0 {
				continue // the controller was not there
			}
			rng.Shuffle(len(have), func(a, b int) { have[a], have[b] = have[b], have[a] })
			gone := idsOf(Surplus(policy, have, used, now))
			have = slices.DeleteFunc(have, func(pt protocol.Point) bool { return slices.Contains(gone, pt.ID) })
			if problem := wrong(policy, all, have, used, now); problem != "" {
				t.Fatalf("seed %d, %+v, after %d points: %s", seed, policy, len(all), problem)
			}
		}
	}
}

// randomPolicy has periods that divide each other, and sometimes a crooked one.
func randomPolicy(rng *rand.Rand) Policy {
	policy := Policy{Newest: rng.IntN(4)}
	every := time.Duration(1+rng.IntN(20)) * time.Minute
	for range rng.IntN(4) {
		policy.Tiers = append(policy.Tiers, protocol.RetentionTier{Every: every, For: every * time.Duration(1+rng.IntN(10))})
		every *= time.Duration(2 + rng.IntN(8))
	}
	if rng.IntN(4) == 0 {
		policy.Tiers = append(policy.Tiers, protocol.RetentionTier{Every: 17 * time.Minute, For: 5 * time.Hour})
	}
	return policy
}

// wrong says what is wrong with what was kept of all points.
func wrong(policy Policy, all, have []protocol.Point, used map[string]bool, now time.Time) string {
	kept := map[string]bool{}
	for _, pt := range have {
		kept[pt.ID] = true
	}
	if again := Surplus(policy, have, used, now); len(again) > 0 {
		return fmt.Sprintf("asked again at once, it wants %v to go", idsOf(again))
	}
	// Whenever it was asked before, what is left is what one look at everything would have left.
	once := map[string]bool{}
	for _, pt := range Surplus(policy, all, used, now) {
		once[pt.ID] = true
	}
	bound := max(policy.Newest, 1)
	for _, pt := range all {
		if stays := !once[pt.ID]; stays != kept[pt.ID] {
			return fmt.Sprintf("point %s is kept: %v, by one look: %v", pt.ID, kept[pt.ID], stays)
		}
		if (pt.Pinned || used[pt.ID]) && !kept[pt.ID] {
			return "a point that is pinned or in use has gone: " + pt.ID
		}
		if pt.Pinned || used[pt.ID] {
			bound++
		}
	}
	if !kept[all[len(all)-1].ID] {
		return "the newest one has gone"
	}
	for _, tier := range policy.Tiers {
		bound += int((tier.For+tier.Every-1)/tier.Every) + 1
		if problem := uncovered(tier, all, kept, now); problem != "" {
			return problem
		}
	}
	if len(have) > bound {
		return fmt.Sprintf("%d are kept, more than %d", len(have), bound)
	}
	return ""
}

// uncovered finds a period of a tier that had a point, and has none though it is young enough.
func uncovered(tier protocol.RetentionTier, all []protocol.Point, kept map[string]bool, now time.Time) string {
	covered := map[time.Time]bool{}
	for _, pt := range all {
		if kept[pt.ID] {
			covered[pt.Ordered.Truncate(tier.Every)] = true
		}
	}
	for _, pt := range all {
		if period := pt.Ordered.Truncate(tier.Every); !covered[period] && now.Sub(period.Add(tier.Every)) <= tier.For {
			return fmt.Sprintf("nothing is left of the period at %s of %+v", period, tier)
		}
	}
	return ""
}
