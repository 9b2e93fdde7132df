package bandwidth

import (
	"math/rand/v2"
	"testing"
	"time"

	"rehost/protocol"
)

func at(t *testing.T, zone, text string) time.Time {
	t.Helper()
	place, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	when, err := time.ParseInLocation("2006-01-02 15:04:05", text, place)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func hm(h, m int) time.Duration { return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute }

// Property: whatever the settings and the time, nobody gets nothing (0 would be no limit), nobody gets more than a
// server may, and all together get no more than the site has.
func TestSharesStayWithinTheSite(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 20000 {
		s := protocol.BandwidthSettings{Server: rng.Int64N(2) * rng.Int64N(1<<30), Site: 125_000 + rng.Int64N(1<<33)}
		for range rng.IntN(3) {
			s.Windows = append(s.Windows, protocol.BandwidthWindow{
				From: hm(rng.IntN(24), rng.IntN(60)), To: hm(rng.IntN(24), rng.IntN(60)), Zone: "Europe/Vienna",
				Server: rng.Int64N(1 << 30), Site: 125_000 + rng.Int64N(1<<30),
			})
		}
		now := time.Unix(1_700_000_000+rng.Int64N(1<<28), 0)
		server, site := s.Server, s.Site
		for i := len(s.Windows) - 1; i >= 0; i-- {
			if w := s.Windows[i]; Within(w, now) {
				server, site = w.Server, w.Site
			}
		}
		active := 1 + rng.IntN(int(min(site/Floor, 3000)))
		got := Limit(s, now, active)
		if got <= 0 && server != 0 || server > 0 && got > server || got*int64(active) > site {
			t.Fatalf("%+v at %s with %d servers: %d", s, now, active, got)
		}
	}
	if got := Limit(protocol.BandwidthSettings{Site: 125_000}, time.Now(), 1_000_000); got != Floor {
		t.Errorf("a crowd gets %d each, want the floor", got)
	}
	if got := Limit(protocol.BandwidthSettings{}, time.Now(), 3); got != 0 {
		t.Errorf("without settings: %d, want no limit", got)
	}
	if got := Limit(protocol.BandwidthSettings{Server: 1000, Site: 9000}, time.Now(), 0); got != 1000 {
		t.Errorf("alone: %d, want the server's own limit", got)
	}
}

func TestTheFirstWindowThatItIsCounts(t *testing.T) {
	const zone = "Europe/Vienna"
	week := []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday}
	s := protocol.BandwidthSettings{Server: 50, Windows: []protocol.BandwidthWindow{
		{Days: week, From: hm(8, 0), To: hm(18, 0), Zone: zone, Server: 10},
		{Days: []time.Weekday{time.Friday}, From: hm(22, 0), To: hm(6, 0), Zone: zone, Server: 20},
		{From: hm(17, 0), To: hm(19, 0), Zone: zone, Server: 30},
		{Days: []time.Weekday{time.Sunday}, From: hm(20, 0), To: hm(24, 0), Zone: zone}, // no limit
	}}
	for text, want := range map[string]int64{
		"2026-03-06 07:59:59": 50, "2026-03-06 08:00:00": 10, "2026-03-06 17:59:59": 10, "2026-03-06 18:00:00": 30,
		"2026-03-06 19:00:00": 50, "2026-03-06 21:59:59": 50, "2026-03-06 22:00:00": 20, "2026-03-06 23:59:59": 20,
		"2026-03-07 00:00:00": 20, "2026-03-07 05:59:59": 20, "2026-03-07 06:00:00": 50, // Saturday: the window began on Friday
		"2026-03-07 22:00:00": 50, "2026-03-08 05:00:00": 50, "2026-03-08 12:00:00": 50, "2026-03-08 17:30:00": 30,
		"2026-03-08 20:00:00": 0, "2026-03-08 23:59:59": 0, "2026-03-09 00:00:00": 50,
		// The clock jumps from 02:00 to 03:00 on March 29 and goes back from 03:00 to 02:00 on October 25, both Sundays.
		"2026-03-30 08:00:00": 10, "2026-03-27 08:00:00": 10, "2026-10-26 07:59:59": 50, "2026-10-26 08:00:00": 10,
	} {
		if got := Limit(s, at(t, zone, text).UTC(), 1); got != want {
			t.Errorf("at %s: %d, want %d", text, got, want)
		}
	}
}

// Minutes of the day in the window, counted one by one over the days on which the clock is changed.
func TestAWindowFollowsTheWallClockWhenItIsPutForwardOrBack(t *testing.T) {
	w := protocol.BandwidthWindow{From: hm(1, 0), To: hm(4, 0), Zone: "Europe/Vienna"}
	for day, want := range map[string]int{"2026-03-28": 180, "2026-03-29": 120, "2026-10-25": 240} {
		start, got := at(t, w.Zone, day+" 00:00:00"), 0
		for m := range 12 * 60 {
			if Within(w, start.Add(time.Duration(m)*time.Minute)) {
				got++
			}
		}
		if got != want {
			t.Errorf("%s: %d minutes in the window, want %d", day, got, want)
		}
	}
	w.Zone = "Europe/Wien"
	if Within(w, at(t, "Europe/Vienna", "2026-03-28 02:00:00")) {
		t.Error("a window of an unknown zone")
	}
}
