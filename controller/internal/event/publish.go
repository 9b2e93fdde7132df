package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/await"
	"rehost/controller/internal/store"
	"rehost/internal/bus"
	"rehost/protocol"
)

const (
	// gather is how long changes of records are gathered before they are told together: what several records say of one moment is then
	// told in its order.
	gather = 100 * time.Millisecond
	// publishWithin bounds how long the stream may take for one event.
	publishWithin = 5 * time.Second
	maxPause      = time.Minute
)

// Publisher puts what happened onto the bus.
type Publisher struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	servers *store.Bucket[protocol.Server]
	jobs    *store.Bucket[protocol.Job]
	told    *store.Bucket[protocol.Told]
	log     hclog.Logger
	kick    chan struct{}

	mu      sync.Mutex
	changed map[string]bool // keys of what was told, of records that may have something to tell
}

// Open makes sure that the stream exists, and follows the records from now on: call it before the store runs.
func Open(ctx context.Context, js jetstream.JetStream, st *store.Store, log hclog.Logger) (*Publisher, error) {
	stream, err := bus.EnsureEvents(ctx, js)
	if err != nil {
		return nil, err
	}
	p := &Publisher{js: js, stream: stream, servers: st.Servers, jobs: st.Jobs, told: st.Told, log: log, kick: make(chan struct{}, 1), changed: map[string]bool{}}
	st.Servers.Follow(func(key string) { p.note(toldKey(kindServer, key)) })
	st.Jobs.Follow(func(key string) { p.note(toldKey(kindJob, key)) })
	return p, nil
}

func toldKey(kind, name string) string { return kind + "." + name }

// note remembers that a record may have something to tell.
func (p *Publisher) note(key string) {
	p.mu.Lock()
	p.changed[key] = true
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *Publisher) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := slices.Sorted(maps.Keys(p.changed))
	clear(p.changed)
	return keys
}

// Run tells what happened until ctx ends. What could not be told is told later.
func (p *Publisher) Run(ctx context.Context) error {
	pause := gather
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.kick:
		}
		if err := await.Pause(ctx, pause); err != nil {
			return nil //nolint:nilerr // ctx ended
		}
		keys := p.take()
		if err := p.tell(ctx, keys); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // ctx ended
			}
			p.log.Warn("events wait", "records", len(keys), "error", err)
			pause = min(2*pause, maxPause)
			for _, key := range keys {
				p.note(key)
			}
			continue
		}
		pause = gather
	}
}

// tell publishes what these records have to tell, in the order in which it happened, and then writes down that it is told.
func (p *Publisher) tell(ctx context.Context, keys []string) error {
	var all []numbered
	upTo := map[string]int64{}
	for _, key := range keys {
		events, err := p.untold(key)
		if err != nil {
			return err
		}
		for _, e := range events {
			upTo[key] = e.number
		}
		all = append(all, events...)
	}
	inOrder(all)
	for _, e := range all {
		if err := p.publish(ctx, e.Event); err != nil {
			return err
		}
	}
	for key, number := range upTo {
		if err := p.write(ctx, key, number); err != nil {
			return err
		}
	}
	return nil
}

// untold returns what a record has to tell.
func (p *Publisher) untold(key string) ([]numbered, error) {
	told, err := p.told.Get(key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	kind, name, _ := strings.Cut(key, ".")
	if kind == kindServer {
		r, err := p.servers.Get(name)
		if err != nil {
			return nil, gone(err)
		}
		return ofServer(r, told.Number)
	}
	j, err := p.jobs.Get(name)
	if err != nil {
		return nil, gone(err)
	}
	return ofJob(j, told.Number)
}

// gone leaves out that a record was removed: it has nothing to tell.
func gone(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (p *Publisher) publish(ctx context.Context, e protocol.Event) error {
	ctx, cancel := context.WithTimeout(ctx, publishWithin)
	defer cancel()
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	if _, err := p.js.Publish(ctx, protocol.EventSubject(e), text, jetstream.WithMsgID(e.ID), jetstream.WithExpectStream(protocol.EventStream)); err != nil {
		return fmt.Errorf("publish event %s: %w", e.ID, err)
	}
	return nil
}

func (p *Publisher) write(ctx context.Context, key string, number int64) error {
	_, err := p.told.Update(ctx, key, func(t *protocol.Told) error { t.Number = max(t.Number, number); return nil })
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err = p.told.Create(ctx, key, protocol.Told{Number: number}); errors.Is(err, store.ErrExists) {
		return fmt.Errorf("told by another controller: %w", err) // then it is seen at the next look
	}
	return err
}
