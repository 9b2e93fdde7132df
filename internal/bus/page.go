package bus

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// From says where in a stream to begin.
type From struct {
	After   uint64    // with what comes after this place; 0: with the first message
	Since   time.Time // with what was published since; with no After
	Subject string    // with what is on it only; may hold wildcards; empty: all
}

// Message is one message of a stream.
type Message struct {
	Place uint64 // in the stream, from 1; they grow, with gaps
	Data  []byte
}

// Page returns the next messages of a stream, at most limit. A bound like that also keeps a reply which is made of them below the bus's
// largest message.
func Page(ctx context.Context, stream jetstream.Stream, from From, limit int) ([]Message, error) {
	cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: from.After + 1}
	if from.After == 0 && !from.Since.IsZero() {
		cfg = jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &from.Since}
	}
	if from.Subject != "" {
		cfg.FilterSubjects = []string{from.Subject}
	}
	consumer, err := stream.OrderedConsumer(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream.CachedInfo().Config.Name, err)
	}
	batch, err := consumer.FetchNoWait(limit)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream.CachedInfo().Config.Name, err)
	}
	var out []Message
	for msg := range batch.Messages() {
		meta, err := msg.Metadata()
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", stream.CachedInfo().Config.Name, err)
		}
		out = append(out, Message{meta.Sequence.Stream, msg.Data()})
	}
	if err := batch.Error(); err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream.CachedInfo().Config.Name, err)
	}
	return out, nil
}
