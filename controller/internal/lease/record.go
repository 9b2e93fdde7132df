package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/protocol"
)

// sight is what a candidate has seen of another one's lease.
type sight struct {
	revision uint64
	at       time.Duration
	told     string // process of which it was said that it leads
}

// takes says that the lease can be taken: nobody has it, or it was not renewed for as long as it lasts, by the candidate's own clock. A process takes its own one
// at once: what it did in that term has ended.
func (s *sight) takes(there protocol.Lease, revision uint64, process string, now, lasts time.Duration) bool {
	if revision == 0 || there.Free || there.Process == process {
		return true
	}
	if s.revision != revision {
		s.revision, s.at = revision, now
	}
	return now-s.at >= lasts
}

// read returns the lease and its revision, which is 0 when there is none.
func (c *Candidate) read(ctx context.Context) (there protocol.Lease, revision uint64, err error) {
	e, err := c.kv.Get(ctx, protocol.LeaseKey)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return there, 0, nil
	}
	if err != nil {
		return there, 0, fmt.Errorf("read the lease: %w", err)
	}
	if err := bus.Decode(e.Value(), &there); err != nil {
		return there, 0, fmt.Errorf("read the lease: %w", err)
	}
	return there, e.Revision(), nil
}

// write writes the lease if it still has a revision; 0: if there is none.
func (c *Candidate) write(ctx context.Context, l protocol.Lease, revision uint64) (uint64, error) {
	text, err := bus.Encode(l)
	if err != nil {
		return 0, fmt.Errorf("encode the lease: %w", err)
	}
	if revision == 0 {
		revision, err = c.kv.Create(ctx, protocol.LeaseKey, text)
	} else {
		revision, err = c.kv.Update(ctx, protocol.LeaseKey, text, revision)
	}
	if err != nil {
		return 0, fmt.Errorf("write the lease: %w", err)
	}
	return revision, nil
}
