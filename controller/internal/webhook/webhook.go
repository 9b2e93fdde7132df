// Package webhook delivers events to the URLs that the controller's file declares. Each webhook reads the stream of events by itself
// and keeps in a record how far it is, so that nothing waits for it and a restart loses nothing: each event that it wants is delivered at
// least once, those about one server in their order. It neither makes events nor judges them.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
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
	maxAtOnce = 8    // deliveries of one webhook under way
	maxHeld   = 1000 // events of one webhook in memory: some MiB; those behind them stay in the stream
	// maxLetters bounds the dead letters that a record tells of.
	maxLetters  = 10
	saveWithin  = 2 * time.Second
	firstPause  = time.Second
	restartRest = 10 * time.Second
)

// Config declares a webhook.
type Config struct {
	Name       string
	URL        string
	SecretFile string        // see [Secrets]
	Events     []string      // patterns of types; empty: all
	Retry      time.Duration // first pause after a failure; 0: 1 s
}

// Check says whether the secret can be read.
func (c Config) Check() error {
	_, err := Secrets(c.SecretFile)
	return err
}

// Webhooks are all of them.
type Webhooks struct {
	declared []Config
	js       jetstream.JetStream
	records  *store.Bucket[protocol.Webhook]
	log      hclog.Logger
}

// New makes Webhooks.
func New(declared []Config, js jetstream.JetStream, st *store.Store, log hclog.Logger) *Webhooks {
	return &Webhooks{declared: declared, js: js, records: st.Webhooks, log: log}
}

// Run delivers until ctx ends. What goes wrong with a webhook is in its record, and in the log.
func (w *Webhooks) Run(ctx context.Context) error {
	if err := w.forget(ctx); err != nil {
		w.log.Warn("the record of a webhook that is not declared any more stays", "error", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, cfg := range w.declared {
		wg.Go(func() {
			for ctx.Err() == nil {
				h := &hook{cfg: cfg, records: w.records, client: newClient(), log: w.log.With("webhook", cfg.Name)}
				if err := h.run(ctx, w.js); err != nil && ctx.Err() == nil {
					h.log.Warn("the webhook starts anew", "error", err)
					_ = await.Pause(ctx, restartRest) // ended with ctx, then the loop does
				}
			}
		})
	}
	return nil
}

// forget removes the records of webhooks that are not declared any more.
func (w *Webhooks) forget(ctx context.Context) error {
	all, err := w.records.List("")
	if err != nil {
		return err
	}
	for _, r := range all {
		if !slices.ContainsFunc(w.declared, func(c Config) bool { return c.Name == r.Name }) {
			if err := w.records.Delete(ctx, r.Name, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// hook is one webhook at work. One goroutine owns it.
type hook struct {
	cfg     Config
	records *store.Bucket[protocol.Webhook]
	client  *http.Client
	log     hclog.Logger
	queue   *queue
	record  protocol.Webhook
}

// outcome is what came of one attempt.
type outcome struct {
	letter
	err error
}

// run delivers until ctx ends, or until its record or the stream cannot be read.
func (h *hook) run(parent context.Context, js jetstream.JetStream) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	stream, err := js.Stream(ctx, protocol.EventStream)
	if err != nil {
		return fmt.Errorf("open the stream of events: %w", err)
	}
	if err := h.load(ctx, stream); err != nil {
		return err
	}
	var wg sync.WaitGroup
	letters, failed, outcomes := make(chan letter), make(chan error, 1), make(chan outcome, maxAtOnce)
	wg.Go(func() { failed <- h.feed(ctx, stream, h.record.Next, letters) })
	defer func() {
		cancel()
		wg.Wait()
		close(outcomes)
		for o := range outcomes {
			h.settle(o)
		}
		h.save(parent)
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		for _, l := range h.queue.due(time.Now(), maxAtOnce) {
			wg.Go(func() { outcomes <- outcome{l, h.send(ctx, l)} })
		}
		in := letters
		if h.queue.size >= maxHeld {
			in = nil
		}
		if at := h.queue.wake(); !at.IsZero() && h.queue.sending < maxAtOnce { // else an outcome comes first
			timer.Reset(time.Until(at))
		}
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case l := <-in:
			h.take(l)
		case o := <-outcomes:
			h.settle(o)
			h.save(ctx)
		case <-timer.C:
		}
	}
}

// load takes up the record, and the events that it holds.
func (h *hook) load(ctx context.Context, stream jetstream.Stream) error {
	info, err := stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("look at the stream of events: %w", err)
	}
	end := info.State.LastSeq + 1
	h.queue = newQueue(h.cfg.Retry)
	if h.cfg.Retry == 0 {
		h.queue.retry = firstPause
	}
	h.record, err = h.records.Get(h.cfg.Name)
	if errors.Is(err, store.ErrNotFound) {
		h.record = protocol.Webhook{Name: h.cfg.Name, Since: time.Now(), Next: end}
		if err := h.records.Create(ctx, h.cfg.Name, h.record); err != nil && !errors.Is(err, store.ErrExists) {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	if h.record.Next > end {
		h.log.Warn("the stream of events is another one: what it had held is lost to the webhook", "held", len(h.record.Held))
		h.record.Next, h.record.Held = end, nil
	}
	for _, place := range h.record.Held {
		msg, err := stream.GetMsg(ctx, place)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			lost := letter{place: place, event: protocol.Event{ID: fmt.Sprintf("place %d of the stream", place)}}
			h.bury(lost, 0, "it is in the stream no more")
			continue
		}
		if err != nil {
			return fmt.Errorf("read event %d: %w", place, err)
		}
		l, err := read(bus.Message{Place: place, Data: msg.Data})
		if err != nil {
			return err
		}
		h.queue.add(l)
	}
	return nil
}

// take puts a letter from the stream into the queue, if the webhook wants it.
func (h *hook) take(l letter) {
	h.record.Next = l.place + 1
	if h.wants(l.event) {
		h.queue.add(l)
	}
}

// wants says whether an event is delivered. One from before the webhook was declared may come late into the stream.
func (h *hook) wants(e protocol.Event) bool {
	return !e.Time.Before(h.record.Since) && (len(h.cfg.Events) == 0 || slices.ContainsFunc(h.cfg.Events, e.Is))
}

// settle notes what came of an attempt.
func (h *hook) settle(o outcome) {
	now := time.Now()
	if o.err == nil {
		h.queue.delivered(o.letter)
		h.record.Delivered++
		if !h.record.Failing.IsZero() {
			h.log.Info("the webhook answers again", "failed_since", h.record.Failing)
		}
		h.record.Last, h.record.Failing, h.record.Error = now, time.Time{}, ""
		return
	}
	if errors.Is(o.err, context.Canceled) {
		return // the process ends: nothing is known of the receiver
	}
	attempts, dead := h.queue.failed(o.letter, now)
	h.record.Error = o.err.Error()
	if h.record.Failing.IsZero() {
		h.record.Failing = now
		h.log.Warn("the webhook fails", "event", o.event.ID, "error", o.err)
	}
	if dead {
		h.bury(o.letter, attempts, o.err.Error())
	}
}

// bury notes that a letter was given up.
func (h *hook) bury(l letter, attempts int, why string) {
	h.record.Dead++
	h.record.Letters = append(h.record.Letters, protocol.DeadLetter{
		ID: l.event.ID, Type: l.event.Type, Server: l.event.Subject, At: time.Now(), Attempts: attempts, Error: why,
	})
	h.record.Letters = h.record.Letters[max(0, len(h.record.Letters)-maxLetters):]
	h.log.Error("an event was given up", "event", l.event.ID, "attempts", attempts, "error", why)
}

// save writes the record. What it lacks after a crash is delivered again.
func (h *hook) save(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveWithin)
	defer cancel()
	h.record.Held = h.queue.held()
	_, err := h.records.Update(ctx, h.cfg.Name, func(r *protocol.Webhook) error { *r = h.record; return nil })
	if err != nil {
		h.log.Warn("how far the webhook is could not be written", "error", err)
	}
}
