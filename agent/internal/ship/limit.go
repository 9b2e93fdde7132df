package ship

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rehost/protocol"
)

// limitTick is how soon a wait notices that its session has ended or the limit has changed.
const limitTick = 100 * time.Millisecond

// limit bounds the bytes of frames that are published per second. It lets no burst through after a pause: a link that is
// shared has no use for one.
type limit struct {
	mu     sync.Mutex // guards the fields beneath
	bucket *rate.Limiter
	bytes  int64
}

func newLimit() *limit { return &limit{bucket: rate.NewLimiter(rate.Inf, protocol.MaxFrame)} }

// set changes the limit; 0: none.
func (l *limit) set(bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes == bytes {
		return
	}
	l.bytes = bytes
	if bytes <= 0 {
		l.bucket = rate.NewLimiter(rate.Inf, protocol.MaxFrame)
		return
	}
	l.bucket = rate.NewLimiter(rate.Limit(bytes), protocol.MaxFrame)
	l.bucket.AllowN(time.Now(), protocol.MaxFrame) // it begins empty
}

// take says how long n bytes have to wait, and 0 when they have been taken.
func (l *limit) take(n int64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.bucket.AllowN(now, int(n)) {
		return 0
	}
	missing := float64(n) - l.bucket.TokensAt(now)
	return max(time.Duration(missing/float64(l.bucket.Limit())*float64(time.Second)), time.Millisecond)
}

// throttle waits until a frame of n bytes may be sent, and says whether its session still is the current one.
func (s *Shipper) throttle(ctx context.Context, term uint64, n int64) bool {
	defer s.status.wait(legLimit)()
	for {
		pause := s.limit.take(n)
		if pause == 0 {
			return true
		}
		select {
		case <-time.After(min(pause, limitTick)):
		case <-ctx.Done():
			return false
		}
		s.mu.Lock()
		current := s.sess.term == term
		s.mu.Unlock()
		if !current {
			return false
		}
	}
}
