package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/protocol"
)

// Screenshots keeps screens of instances for a while. There is no mirror of them in memory: they are large, and read seldom.
type Screenshots struct {
	kv  jetstream.KeyValue
	may func() error
}

// Keep keeps the screen of a job's server, instead of an earlier one.
func (s *Screenshots) Keep(ctx context.Context, job, server string, shot protocol.Screenshot) error {
	text, err := bus.Encode(shot)
	if err == nil {
		err = s.may()
	}
	if err == nil {
		_, err = s.kv.Put(ctx, screenshotKey(job, server), text)
	}
	if err != nil {
		return fmt.Errorf("keep the screen of %s: %w", server, err)
	}
	return nil
}

// Get returns the screen that was kept of a job's server, or [ErrNotFound].
func (s *Screenshots) Get(ctx context.Context, job, server string) (protocol.Screenshot, error) {
	var shot protocol.Screenshot
	e, err := s.kv.Get(ctx, screenshotKey(job, server))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return shot, fmt.Errorf("screen of %s in job %s: %w", server, job, ErrNotFound)
	}
	if err == nil {
		err = bus.Decode(e.Value(), &shot)
	}
	if err != nil {
		return shot, fmt.Errorf("read the screen of %s: %w", server, err)
	}
	return shot, nil
}

func screenshotKey(job, server string) string { return job + "." + server }
