package apply

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pullBytes is what is on its way from the broker at most.
	pullBytes   = 16 << 20
	recreateGap = 500 * time.Millisecond
	// quietLimit is how long nothing may come while the stream has something, before the consumer is made anew.
	quietLimit = 3 * time.Second
	// quietLongest is the pause between two questions about a stream that stays quiet. The replicas of a fleet at rest ask
	// the broker hundreds of them otherwise, each second.
	quietLongest = 15 * time.Second
	apiLimit     = 3 * time.Second
)

// received is one message of the stream.
type received struct {
	seq  uint64
	born time.Time // of the stream that it came from: seq means nothing in another one
	data []byte
}

// receiver hands on the messages of a stream from its first, over and over when the consumer or the stream is lost.
// A message may come again; the chain knows.
type receiver struct {
	js     jetstream.JetStream
	stream string
	log    hclog.Logger
	out    chan received
	kick   chan struct{} // there is something to purge

	mu           sync.Mutex    // guards the fields beneath
	last         uint64        // seq of the last message handed on
	lastConsumer uint64        // its number at the consumer
	at           time.Time     // when
	askAt        time.Time     // when the broker is asked next, unless something comes
	askPause     time.Duration // from there to the question after it
	born         time.Time     // of the stream that it came from
	restart      context.CancelFunc
	asking       bool
	freeSeq      uint64    // the stream may be freed up to it
	freeBorn     time.Time // of the stream that it speaks of
}

func newReceiver(js jetstream.JetStream, stream string, log hclog.Logger) *receiver {
	return &receiver{js: js, stream: stream, log: log, out: make(chan received), kick: make(chan struct{}, 1), at: time.Now(), askPause: quietLimit}
}

func (c *receiver) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.purgeLoop(ctx) })
	for ctx.Err() == nil {
		one, cancel := context.WithCancel(ctx)
		c.mu.Lock()
		c.restart = cancel
		c.mu.Unlock()
		if err := c.consume(one); err != nil && one.Err() == nil {
			c.log.Debug("consumer ended", "stream", c.stream, "error", err)
		}
		cancel()
		select {
		case <-time.After(recreateGap):
		case <-ctx.Done():
		}
	}
}

// consume reads the stream from its first message until something ends it.
func (c *receiver) consume(ctx context.Context) error {
	api, cancel := context.WithTimeout(ctx, apiLimit)
	defer cancel()
	stream, err := c.js.Stream(api, c.stream)
	if err != nil {
		return err
	}
	consumer, err := stream.CreateConsumer(api, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		InactiveThreshold: time.Minute, MemoryStorage: true, Replicas: 1,
	})
	if err != nil {
		return err
	}
	it, err := consumer.Messages(jetstream.PullMaxBytes(pullBytes), jetstream.PullExpiry(20*time.Second))
	if err != nil {
		return err
	}
	defer it.Stop()
	c.mu.Lock()
	born := stream.CachedInfo().Created
	c.born, c.last, c.at = born, 0, time.Now()
	c.mu.Unlock()
	return c.forward(ctx, it, born)
}

var errJump = errors.New("the broker skipped messages")

func (c *receiver) forward(ctx context.Context, it jetstream.MessagesContext, born time.Time) error {
	for {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := m.Metadata()
		if err != nil {
			return err
		}
		select {
		case c.out <- received{seq: meta.Sequence.Stream, born: born, data: m.Data()}:
		case <-ctx.Done():
			return ctx.Err()
		}
		c.mu.Lock()
		jump := c.last > 0 && meta.Sequence.Consumer > c.lastConsumer+1
		c.last, c.lastConsumer, c.at = meta.Sequence.Stream, meta.Sequence.Consumer, time.Now()
		c.mu.Unlock()
		if jump {
			return errJump
		}
	}
}

// watch makes the consumer anew when the stream has something that does not come. It asks the broker at most once at a
// time, beside its caller, and less and less often while nothing comes.
func (c *receiver) watch(ctx context.Context, standing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if standing {
		c.at = now // nothing is taken, so nothing comes
	}
	if now.Sub(c.at) < quietLimit {
		c.askAt, c.askPause = now, quietLimit
		return
	}
	if c.asking || now.Before(c.askAt) {
		return
	}
	c.asking, c.askAt = true, now.Add(c.askPause)
	c.askPause = min(2*c.askPause, quietLongest)
	go c.ask(ctx, c.last, c.born) // ends within apiLimit
}

func (c *receiver) ask(ctx context.Context, last uint64, born time.Time) {
	ctx, cancel := context.WithTimeout(ctx, apiLimit)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.stream)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asking = false
	if err != nil || c.last != last {
		return
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(born) || info.State.LastSeq < last || info.State.Msgs > 0 && info.State.LastSeq > last {
		c.log.Info("consumer made anew", "stream", c.stream, "last_seq", info.State.LastSeq, "consumed", last)
		c.at = time.Now()
		if c.restart != nil {
			c.restart()
		}
	}
}

// free lets the stream be freed up to seq, soon: the agent is not kept waiting for it.
func (c *receiver) free(seq uint64, born time.Time) {
	c.mu.Lock()
	c.freeSeq, c.freeBorn = seq, born
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

func (c *receiver) purgeLoop(ctx context.Context) {
	for {
		select {
		case <-c.kick:
			c.mu.Lock()
			seq, born := c.freeSeq, c.freeBorn
			c.mu.Unlock()
			c.purge(ctx, seq, born)
		case <-ctx.Done():
			return
		}
	}
}

// purge frees the stream up to seq, when it still is the one that seq came from.
func (c *receiver) purge(ctx context.Context, seq uint64, born time.Time) {
	if seq == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, purgeLimit)
	defer cancel()
	stream, err := c.js.Stream(ctx, c.stream)
	if err == nil && stream.CachedInfo().Created.Equal(born) {
		err = stream.Purge(ctx, jetstream.WithPurgeSequence(seq+1))
	}
	if err != nil {
		c.log.Debug("purge", "stream", c.stream, "error", err)
	}
}
