package apply

import (
	"time"

	"rehost/protocol"
)

// spent sums up what the time went to.
type spent struct {
	waiting, writing, flushing time.Duration
}

// load turns it into shares of the time in which it was spent.
func (s spent) load(in time.Duration) protocol.Load {
	share := func(d time.Duration) float64 { return min(d.Seconds()/max(in.Seconds(), 1e-3), 1) }
	return protocol.Load{Waiting: share(s.waiting), Writing: share(s.writing), Flushing: share(s.flushing)}
}
