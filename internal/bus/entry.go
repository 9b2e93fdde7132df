package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/protocol"
)

// Records hands out all records of a bucket.
func Records(ctx context.Context, js jetstream.JetStream, bucket string, each func(protocol.BackupEntry) error) error {
	fail := func(err error) error { return fmt.Errorf("read bucket %s: %w", bucket, err) }
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return fail(err)
	}
	watcher, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fail(err)
	}
	defer watcher.Stop() //nolint:errcheck // the connection may be gone already
	for {
		select {
		case <-ctx.Done():
			return fail(context.Cause(ctx))
		case e, ok := <-watcher.Updates():
			if !ok {
				return fail(errors.New("the watch ended"))
			}
			if e == nil { // all that is there has come
				return nil
			}
			entry := protocol.BackupEntry{Bucket: bucket, Key: e.Key()}
			if err := Decode(e.Value(), &entry.Value); err != nil {
				return fail(fmt.Errorf("record %s: %w", e.Key(), err))
			}
			if err := each(entry); err != nil {
				return err
			}
		}
	}
}

// PutRecord writes a record over whatever there is. It is for who has a bus for himself.
func PutRecord(ctx context.Context, js jetstream.JetStream, bucket, key string, v any) error {
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return fmt.Errorf("write record %s of %s: %w", key, bucket, err)
	}
	text, err := Encode(v)
	if err != nil {
		return fmt.Errorf("encode record %s of %s: %w", key, bucket, err)
	}
	if _, err := kv.Put(ctx, key, text); err != nil {
		return fmt.Errorf("write record %s of %s: %w", key, bucket, err)
	}
	return nil
}
