// Package bandwidth decides how much an agent may send now. It is pure: settings, a time and a
// number of servers in, bytes per second out. It measures nothing and holds nobody back: agents do.
package bandwidth

import (
	"slices"
	"time"
	_ "time/tzdata" // windows name zones, and a minimal host has none

	"rehost/protocol"
)

// Floor is what every server gets, in bytes per second, however many share a site: none starves.
const Floor = 1 << 10

// Limit returns how many bytes of frames one server may send per second; 0: as many as it can. active is how many
// servers share the site's limit, this one among them. Their limits together are not above the site's, unless [Floor]
// for each of them is.
func Limit(s protocol.BandwidthSettings, now time.Time, active int) int64 {
	server, site := s.Server, s.Site
	for _, w := range s.Windows {
		if Within(w, now) {
			server, site = w.Server, w.Site
			break
		}
	}
	if site <= 0 {
		return max(server, 0)
	}
	share := max(site/int64(max(active, 1)), Floor)
	if server > 0 {
		return min(server, share)
	}
	return share
}

// Within says whether a time lies in a window, by the wall clock of the window's zone: when the clock is put forward or
// back the window is shorter or longer. A zone that is unknown here, which a configuration cannot bring, is no window.
func Within(w protocol.BandwidthWindow, now time.Time) bool {
	zone, err := time.LoadLocation(w.Zone)
	if err != nil {
		return false
	}
	local := now.In(zone)
	clock := time.Duration(local.Hour())*time.Hour + time.Duration(local.Minute())*time.Minute + time.Duration(local.Second())*time.Second
	today := local.Weekday()
	yesterday := (today + 6) % 7
	if w.From <= w.To {
		return begins(w, today) && clock >= w.From && clock < w.To
	}
	return begins(w, today) && clock >= w.From || begins(w, yesterday) && clock < w.To
}

// begins says whether a window begins on a day.
func begins(w protocol.BandwidthWindow, day time.Weekday) bool {
	return len(w.Days) == 0 || slices.Contains(w.Days, day)
}
