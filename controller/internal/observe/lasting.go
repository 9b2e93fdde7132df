package observe

import (
	"sync"
	"time"

	"rehost/protocol"
)

// Lasting tells states of replication that last from those that pass: a server with many writes goes to and fro between two of them.
// It is safe for concurrent use.
type Lasting struct {
	For time.Duration // that a state must have been seen, without another one in between

	mu   sync.Mutex
	seen map[string]lasting // by server
}

type lasting struct {
	state protocol.Replication
	since time.Time
}

// See returns the state of a server's replication that lasts, given the one that was recorded and the one that is seen now.
func (l *Lasting) See(server string, recorded, now protocol.Replication, at time.Time) protocol.Replication {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now == recorded {
		delete(l.seen, server)
		return recorded
	}
	s, ok := l.seen[server]
	if !ok || s.state != now {
		s = lasting{now, at}
		if l.seen == nil {
			l.seen = map[string]lasting{}
		}
		l.seen[server] = s
	}
	if at.Sub(s.since) < l.For {
		return recorded
	}
	return now
}
