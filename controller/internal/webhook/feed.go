package webhook

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
)

// readAhead bounds what the client reads before the webhook takes it.
const readAhead = 64 // events

// feed reads the stream from a place on, until ctx ends.
func (h *hook) feed(ctx context.Context, stream jetstream.Stream, from uint64, to chan<- letter) error {
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from})
	if err != nil {
		return fmt.Errorf("read the stream of events: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(readAhead))
	if err != nil {
		return fmt.Errorf("read the stream of events: %w", err)
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	for {
		msg, err := messages.Next()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the stream of events: %w", err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read the stream of events: %w", err)
		}
		l, err := read(bus.Message{Place: meta.Sequence.Stream, Data: msg.Data()})
		if err != nil {
			return err
		}
		select {
		case to <- l:
		case <-ctx.Done():
			return nil
		}
	}
}

func read(m bus.Message) (letter, error) {
	l := letter{place: m.Place, body: m.Data}
	if err := json.Unmarshal(m.Data, &l.event); err != nil {
		return l, fmt.Errorf("read event %d: %w", m.Place, err)
	}
	return l, nil
}
