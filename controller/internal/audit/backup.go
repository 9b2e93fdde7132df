package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/protocol"
)

// exported is how many messages are read at once: some MiB, of which a request and its result have 75 KiB each at most.
const exported = 1000

// Last returns the place of the newest message.
func (l *Log) Last(ctx context.Context) (uint64, error) {
	info, err := l.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at the audit log: %w", err)
	}
	return info.State.LastSeq, nil
}

// Export hands out the log's messages up to a place.
func (l *Log) Export(ctx context.Context, last uint64, each func(protocol.BackupEntry) error) error {
	for at := uint64(0); at < last; {
		messages, err := bus.Page(ctx, l.stream, bus.From{After: at}, exported)
		if err != nil {
			return err
		}
		if len(messages) == 0 {
			return l.end(ctx, at, last)
		}
		for _, m := range messages {
			if at = m.Place; at > last {
				return nil
			}
			if err := each(protocol.BackupEntry{Audit: at, Value: m.Data}); err != nil {
				return err
			}
		}
	}
	return nil
}

// end says whether there is nothing after a place because all of it has aged.
func (l *Log) end(ctx context.Context, at, last uint64) error {
	info, err := l.stream.Info(ctx)
	if err == nil && info.State.FirstSeq <= last {
		err = fmt.Errorf("it ends at %d of %d", at, last)
	}
	if err != nil {
		return fmt.Errorf("read the audit log: %w", err)
	}
	return nil
}

// Import fills a log that does not exist yet. Messages keep their places, by which results know their requests and readers what they have seen.
type Import struct {
	js   jetstream.JetStream
	next uint64          // place of the next one; 0: there is no log yet
	open map[uint64]bool // requests without a result
}

// NewImport begins an import.
func NewImport(js jetstream.JetStream) *Import { return &Import{js: js, open: map[uint64]bool{}} }

// Add writes the next message.
func (i *Import) Add(ctx context.Context, e protocol.BackupEntry) error {
	if e.Audit < i.next {
		return fmt.Errorf("entry %d of the audit log comes after %d", e.Audit, i.next-1)
	}
	var m message
	if err := json.Unmarshal(e.Value, &m); err != nil {
		return fmt.Errorf("entry %d of the audit log: %w", e.Audit, err)
	}
	if m.Of == 0 {
		i.open[e.Audit] = true
	}
	delete(i.open, m.Of)
	if i.next == 0 {
		if _, err := bus.CreateAudit(ctx, i.js, e.Audit); err != nil {
			return err
		}
		i.next = e.Audit
	}
	for i.next < e.Audit { // the log was damaged before it was backed up
		if err := i.message(ctx, message{Entry: protocol.AuditEntry{Verb: "lost", Result: protocol.AuditUnknown}}); err != nil {
			return err
		}
	}
	return i.publish(ctx, e.Value)
}

// Note ends the import with who restored the log. What became of a request that was being handled nobody will know.
func (i *Import) Note(ctx context.Context, e protocol.AuditEntry) error {
	if i.next == 0 {
		if _, err := bus.CreateAudit(ctx, i.js, 1); err != nil {
			return err
		}
		i.next = 1
	}
	for _, id := range slices.Sorted(maps.Keys(i.open)) {
		if err := i.message(ctx, message{Of: id, Entry: protocol.AuditEntry{Result: protocol.AuditUnknown}}); err != nil {
			return err
		}
	}
	id := i.next
	return errors.Join(i.message(ctx, message{Entry: e}), i.message(ctx, message{Of: id, Entry: protocol.AuditEntry{Result: protocol.AuditDone, Took: time.Since(e.At)}}))
}

func (i *Import) message(ctx context.Context, m message) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return i.publish(ctx, text)
}

func (i *Import) publish(ctx context.Context, text []byte) error {
	ack, err := i.js.Publish(ctx, protocol.AuditSubject, text, jetstream.WithExpectStream(protocol.AuditStream))
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	if ack.Sequence != i.next {
		return fmt.Errorf("write the audit log: entry %d became %d", i.next, ack.Sequence)
	}
	i.next++
	return nil
}
