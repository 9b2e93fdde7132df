package controller

import (
	"sync"
	"time"

	"rehost/controller/internal/bandwidth"
	"rehost/controller/internal/observe"
	"rehost/protocol"
)

// shareEvery is how often it is counted who shares a site's bandwidth: as often as agents report.
const shareEvery = time.Second

// shares counts the servers that send, for each replication block.
type shares struct {
	mu      sync.Mutex
	counted time.Time
	active  map[string]int
	working map[string]bool
}

// limit returns what a server may send per second now. One that has nothing to send is counted as if it had: it may
// begin before it is asked again.
func (s *shares) limit(fleet protocol.Fleet, reports *observe.Reports, server string, r protocol.ReplicationSettings, lost time.Duration) int64 {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.counted) >= shareEvery {
		s.counted, s.active, s.working = now, map[string]int{}, map[string]bool{}
		for _, v := range fleet.Servers {
			if reports.Working(v.Name, lost) {
				s.active[v.Replication]++
				s.working[v.Name] = true
			}
		}
	}
	active := s.active[r.Name]
	if !s.working[server] {
		active++
	}
	return bandwidth.Limit(r.Bandwidth, now, active)
}
