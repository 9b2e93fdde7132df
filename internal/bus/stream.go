package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/protocol"
)

// DefaultStreamBytes bounds what the broker keeps for one server: some seconds of full speed.
// When it is full the agent stops reading; the bitmap absorbs the backlog.
const DefaultStreamBytes = int64(1) << 30

// CodeStreamFull is JetStream's error code for a publish that a full stream refused
// ("maximum bytes exceeded"); the client library has no name for it.
const CodeStreamFull jetstream.ErrorCode = 10077

// buckets declares the control plane's records. One old value is kept for each key, for people.
func buckets() []jetstream.KeyValueConfig {
	var all []jetstream.KeyValueConfig
	for _, name := range protocol.Buckets {
		all = append(all, jetstream.KeyValueConfig{Bucket: name, History: 2, Storage: jetstream.FileStorage, Metadata: metadata()})
	}
	return all
}

// EnsureBuckets creates the buckets that are missing and brings the others to what is declared. When a newer version has written
// to one of them, it changes none.
func EnsureBuckets(ctx context.Context, js jetstream.JetStream) error {
	if err := CheckFormat(ctx, js); err != nil {
		return err
	}
	for _, cfg := range buckets() {
		if _, err := js.CreateOrUpdateKeyValue(ctx, cfg); err != nil {
			return fmt.Errorf("ensure bucket %s: %w", cfg.Bucket, err)
		}
	}
	return nil
}

// EnsureLease makes sure that there is a bucket for the lease of the controller that leads.
func EnsureLease(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: protocol.BucketLease, Storage: jetstream.FileStorage, Metadata: metadata()})
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", protocol.BucketLease, err)
	}
	return kv, nil
}

// Screenshots are forgotten when they are older, and none is kept while there is more of them.
const (
	ScreenshotAge   = 90 * 24 * time.Hour
	ScreenshotBytes = int64(1) << 30 // some 20,000
)

// EnsureScreenshots makes sure that there is a bucket for screenshots.
func EnsureScreenshots(ctx context.Context, js jetstream.JetStream) (jetstream.KeyValue, error) {
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: protocol.BucketScreenshots, Storage: jetstream.FileStorage, TTL: ScreenshotAge, MaxBytes: ScreenshotBytes, Metadata: metadata(),
	})
	if err != nil {
		return nil, fmt.Errorf("ensure bucket %s: %w", protocol.BucketScreenshots, err)
	}
	return kv, nil
}

// The audit log forgets its oldest entries when one of these bounds is met.
const (
	AuditAge   = 400 * 24 * time.Hour // a year, and the audit after it
	AuditBytes = int64(1) << 30       // some 500,000 requests
)

func auditStream(first uint64) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: protocol.AuditStream, Subjects: []string{protocol.AuditSubject}, Description: "who changed what, when and why",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: AuditAge, MaxBytes: AuditBytes, DenyDelete: true, DenyPurge: true, Replicas: 1, Metadata: metadata(), FirstSeq: first,
	}
}

// EnsureAudit makes sure that there is an audit log; [EnsureBuckets] comes first. Nobody can delete of it, the controller included; what
// is in it only ages.
func EnsureAudit(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	stream, err := js.CreateOrUpdateStream(ctx, auditStream(0))
	if err != nil {
		return nil, fmt.Errorf("ensure the audit log: %w", err)
	}
	return stream, nil
}

// CreateAudit makes an audit log whose first entry gets a number other than 1.
func CreateAudit(ctx context.Context, js jetstream.JetStream, first uint64) (jetstream.Stream, error) {
	stream, err := js.CreateStream(ctx, auditStream(first))
	if err != nil {
		return nil, fmt.Errorf("create the audit log: %w", err)
	}
	return stream, nil
}

// The stream of events forgets its oldest ones when one of these bounds is met.
const (
	EventAge   = 90 * 24 * time.Hour
	EventBytes = int64(256) << 20 // some 300,000 events
	// eventTwice is within which the stream knows that it has an event: one that is told again after a restart is in it once then.
	eventTwice = 10 * time.Minute
)

// EnsureEvents makes sure that there is a stream of events.
func EnsureEvents(ctx context.Context, js jetstream.JetStream) (jetstream.Stream, error) {
	stream, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: protocol.EventStream, Subjects: []string{protocol.EventSubjects}, Description: "what happened, as CloudEvents",
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: EventAge, MaxBytes: EventBytes, Duplicates: eventTwice, Replicas: 1, Metadata: metadata(),
	})
	if err != nil {
		return nil, fmt.Errorf("ensure the stream of events: %w", err)
	}
	return stream, nil
}

// blocksStream declares the stream of one generation of a server's replica.
func blocksStream(server, generation string, maxBytes int64) jetstream.StreamConfig {
	if maxBytes <= 0 {
		maxBytes = DefaultStreamBytes
	}
	return jetstream.StreamConfig{
		Name:     protocol.StreamName(server, generation),
		Subjects: []string{protocol.BlocksSubject(server)},
		Storage:  jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxBytes: maxBytes, Replicas: 1, Compression: jetstream.NoCompression,
		Duplicates: 100 * time.Millisecond, // the chain finds duplicates; the server wants a window
		// The source can give every block again, so the broker need not sync each one.
		PersistMode: jetstream.AsyncPersistMode,
	}
}

// EnsureStream creates the stream of a server's generation, or brings it to what is declared.
func EnsureStream(ctx context.Context, js jetstream.JetStream, server, generation string, maxBytes int64) error {
	cfg := blocksStream(server, generation, maxBytes)
	if _, err := js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("ensure stream %s: %w", cfg.Name, err)
	}
	return nil
}

// DeleteStream removes the stream of a server's generation; a missing one is fine.
func DeleteStream(ctx context.Context, js jetstream.JetStream, server, generation string) error {
	name := protocol.StreamName(server, generation)
	if err := js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("delete stream %s: %w", name, err)
	}
	return nil
}
