package wave

import (
	"strings"
	"testing"
	"time"

	"rehost/protocol"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	out, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGatesSayWhyTheyAreClosed(t *testing.T) {
	now := at(t, "2026-12-01T12:00:00Z")
	fine := Facts{Server: "web-1", Heard: true, Lag: time.Second, Verified: now.Add(-time.Hour), Tested: now.Add(-time.Hour)}
	all := protocol.GateSettings{Lag: 30 * time.Second, Verified: 2 * time.Hour, Tested: 2 * time.Hour, Clean: true}
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   string // of the closed gate
	}{
		{"all open", func(*Facts) {}, ""},
		{"silent", func(f *Facts) { f.Heard = false }, "lag web-1: its agent is not heard of"},
		{"lags", func(f *Facts) { f.Lag = time.Minute }, "lag web-1: its lag is 1m0s"},
		{"never compared", func(f *Facts) { f.Verified = time.Time{} }, "verified web-1: its replica was never compared as a whole, without differences"},
		{"compared long ago", func(f *Facts) { f.Verified = now.Add(-150 * time.Minute) }, "verified web-1: its newest comparison is 2h30m old"},
		{"untested", func(f *Facts) { f.Tested = time.Time{} }, "tested web-1: no test of it has passed"},
		{"warning", func(f *Facts) { f.Findings.Warnings = 1 }, "preflight web-1: preflight found 1 warning"},
	} {
		f := fine
		tt.change(&f)
		var got []string
		gates := Judge(all, []Facts{{Server: "db-1", Heard: true, Verified: now, Tested: now}, f}, Evidence{}, time.Hour, now)
		for _, g := range gates {
			if !g.Open {
				got = append(got, g.Name+" "+g.Why)
				if !strings.Contains(g.Hint, "web-1") {
					t.Errorf("%s: hint %q", tt.name, g.Hint)
				}
			}
		}
		if strings.Join(got, "|") != tt.want || len(gates) != 4 {
			t.Errorf("%s: got %q of %d gates, want %q", tt.name, got, len(gates), tt.want)
		}
	}
	if got := Judge(protocol.GateSettings{}, []Facts{{Server: "web-1"}}, Evidence{}, time.Hour, now); len(got) != 0 {
		t.Errorf("gates that nobody asked for: %v", got)
	}
}

func TestWindows(t *testing.T) {
	night := protocol.WindowSettings{From: 22 * time.Hour, To: 4 * time.Hour, Zone: "Europe/Vienna"}
	saturdays := night
	saturdays.Days = []time.Weekday{time.Saturday}
	once := night
	once.On = "2026-12-05"
	for _, tt := range []struct {
		name   string
		window protocol.WindowSettings
		except string
		now    string
		need   time.Duration
		want   string // begin, in UTC, or the start of why there is none
	}{
		{"open, and it fits", night, "", "2026-12-01T22:00:00Z", 5 * time.Hour, "2026-12-01T22:00:00Z"},
		{"open since yesterday", night, "", "2026-12-02T01:00:00Z", 2 * time.Hour, "2026-12-02T01:00:00Z"},
		{"open, and too little is left", night, "", "2026-12-02T01:00:00Z", 3 * time.Hour, "2026-12-02T21:00:00Z"},
		{"its end is not in it", night, "", "2026-12-02T03:00:00Z", 0, "2026-12-02T21:00:00Z"},
		{"days", saturdays, "", "2026-12-01T12:00:00Z", time.Hour, "2026-12-05T21:00:00Z"},
		{"Sunday's part of Saturday's", saturdays, "", "2026-12-06T02:00:00Z", time.Hour, "2026-12-06T02:00:00Z"},
		{"blackout", saturdays, "2026-12-05 2026-12-12", "2026-12-01T12:00:00Z", time.Hour, "2026-12-19T21:00:00Z"},
		{"ends where a blackout begins", night, "2026-12-02", "2026-12-01T22:30:00Z", 30 * time.Minute, "2026-12-01T22:30:00Z"},
		{"reaches into a blackout", night, "2026-12-02", "2026-12-01T22:30:00Z", 31 * time.Minute, "2026-12-03T21:00:00Z"},
		{"too short", night, "", "2026-12-01T12:00:00Z", 8 * time.Hour, "no window is long enough: 8h0m are predicted, and the longest one has "},
		{"once", once, "", "2026-11-01T12:00:00Z", time.Hour, "2026-12-05T21:00:00Z"},
		{"once, and over", once, "", "2026-12-06T03:00:00Z", time.Hour, "its window is over, and none comes again"},
		{"once, and too little is left", once, "", "2026-12-06T02:30:00Z", time.Hour, "no window is long enough: 1h0m are predicted, and the longest one has 30m"},
		{"the night that has 23 hours", night, "", "2026-03-28T21:00:00Z", 5*time.Hour + time.Minute, "2026-03-29T20:00:00Z"},
		{"the night that has 25 hours", night, "", "2026-10-24T20:00:00Z", 7 * time.Hour, "2026-10-24T20:00:00Z"},
	} {
		w := tt.window
		w.Except = strings.Fields(tt.except)
		begin, _, why := Fitting([]protocol.WindowSettings{w}, at(t, tt.now), tt.need)
		got := why
		if why == "" {
			got = begin.UTC().Format(time.RFC3339)
		}
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestAWindowThatIsOpenLetsTheCutoverBegin(t *testing.T) {
	s := protocol.GateSettings{Windows: []protocol.WindowSettings{{From: 8 * time.Hour, To: 18 * time.Hour, Zone: "UTC"}}}
	now := at(t, "2026-12-01T12:00:00Z")
	if g := Judge(s, nil, Evidence{}, 6*time.Hour, now); !g[0].Open {
		t.Errorf("closed: %+v", g)
	}
	if got := Closes(append(s.Windows, protocol.WindowSettings{From: 11 * time.Hour, To: 20 * time.Hour, Zone: "UTC"}, protocol.WindowSettings{From: 13 * time.Hour, To: 23 * time.Hour, Zone: "UTC"}), now); !got.Equal(at(t, "2026-12-01T20:00:00Z")) {
		t.Errorf("of those that are open the last one closes at %s", got)
	}
	g := Judge(s, nil, Evidence{}, 7*time.Hour, now)
	if g[0].Open || g[0].Why != "it opens Wed 2026-12-02 08:00 UTC, until Wed 2026-12-02 18:00 UTC" {
		t.Errorf("got %+v", g)
	}
}
