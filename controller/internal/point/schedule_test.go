package point

import (
	"fmt"
	"testing"
	"time"

	"rehost/protocol"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func minutes(n int) time.Time { return t0.Add(time.Duration(n) * time.Minute) }

func taken(id string, origin protocol.PointOrigin, at time.Time) protocol.Point {
	return protocol.Point{ID: id, Origin: origin, State: protocol.PointComplete, Ordered: at, Taken: at}
}

func failed(id string, attempt int, over time.Time) protocol.Point {
	pt := protocol.Point{ID: id, Origin: protocol.OriginSchedule, State: protocol.PointLost, Attempt: attempt, Ordered: over, Over: over, Passing: true, Attempts: 5}
	if attempt > 1 {
		pt.ID, pt.First = fmt.Sprintf("%s-%d", id, attempt), id
	}
	return pt
}

func TestDue(t *testing.T) {
	every := 10 * time.Minute
	old := taken("a", protocol.OriginSchedule, t0)
	for name, c := range map[string]struct {
		every  time.Duration
		points []protocol.Point
		now    time.Time
		want   bool
	}{
		"only on request":           {0, nil, t0, false},
		"the first one":             {every, nil, t0, true},
		"too young":                 {every, []protocol.Point{old}, minutes(9), false},
		"old enough":                {every, []protocol.Point{old}, minutes(10), true},
		"a job took one since":      {every, []protocol.Point{old, taken("b", protocol.OriginJob, minutes(5))}, minutes(10), false},
		"one is on its way":         {every, []protocol.Point{old, {ID: "b", State: protocol.PointOrdered}}, minutes(20), false},
		"one is being snapshotted":  {every, []protocol.Point{{ID: "b", State: protocol.PointSnapshotting, Taken: t0}}, minutes(20), false},
		"one has just failed":       {every, []protocol.Point{old, failed("b", 1, minutes(10))}, minutes(10).Add(29 * time.Second), false},
		"one failed long enough":    {every, []protocol.Point{old, failed("b", 1, minutes(10))}, minutes(10).Add(30 * time.Second), true},
		"two failed":                {every, []protocol.Point{old, failed("b", 1, minutes(10)), failed("c", 1, minutes(11))}, minutes(11).Add(59 * time.Second), false},
		"two failed, longer ago":    {every, []protocol.Point{old, failed("b", 1, minutes(10)), failed("c", 1, minutes(11))}, minutes(12), true},
		"attempts count as one":     {every, []protocol.Point{old, failed("b", 1, minutes(10)), failed("b", 2, minutes(11))}, minutes(11).Add(30 * time.Second), true},
		"failures before a success": {every, []protocol.Point{failed("b", 1, minutes(-2)), failed("c", 1, minutes(-1)), old}, minutes(10), true},
	} {
		if got := Due(c.every, c.points, c.now); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	var many []protocol.Point
	for i := range 20 {
		many = append(many, failed(fmt.Sprint(i), 1, t0))
	}
	if Due(every, many, t0.Add(every-1)) || !Due(every, many, t0.Add(every)) {
		t.Error("the pause after many failures is not the schedule's pace")
	}
}

func TestAgain(t *testing.T) {
	one := failed("a", 1, t0)
	for _, c := range []struct {
		name   string
		points []protocol.Point
		after  time.Duration
		want   string
	}{
		{"too early", []protocol.Point{one}, 999 * time.Millisecond, "[]"},
		{"after a second", []protocol.Point{one}, time.Second, "[a]"},
		{"the third after four", []protocol.Point{one, failed("a", 2, t0), failed("a", 3, t0)}, 3 * time.Second, "[]"},
		{"the third after four", []protocol.Point{one, failed("a", 2, t0), failed("a", 3, t0)}, 4 * time.Second, "[a-3]"},
		{"the fifth is the last", []protocol.Point{failed("a", 5, t0)}, time.Minute, "[]"},
		{"another one is on its way", []protocol.Point{one, {ID: "a-2", First: "a", Attempt: 2, State: protocol.PointOrdered}}, time.Minute, "[]"},
		{"nobody waits any more", []protocol.Point{one}, 6 * time.Minute, "[]"},
		{"the schedule has a newer one", []protocol.Point{one, taken("b", protocol.OriginJob, minutes(1))}, time.Minute, "[]"},
		{"a reason that stays", []protocol.Point{{ID: "a", State: protocol.PointLost, Over: t0, Attempts: 5}}, time.Minute, "[]"},
		{"of a job", []protocol.Point{{ID: "a", State: protocol.PointLost, Over: t0, Passing: true, Attempts: 5, Origin: protocol.OriginJob}}, time.Minute, "[]"},
	} {
		ids := []string{}
		for _, pt := range Again(c.points, t0.Add(c.after)) {
			ids = append(ids, pt.ID)
		}
		if got := fmt.Sprint(ids); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}
