package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

// Keys of the metadata of a bucket, of the audit log and of the stream of events.
const (
	formatKey = "rehost.format" // of the records
	writerKey = "rehost.version"
)

// metadata is what each of them says of its records from now on.
func metadata() map[string]string {
	return map[string]string{formatKey: strconv.Itoa(protocol.RecordFormat), writerKey: version.String()}
}

// CheckFormat says that the records can be read and written by this version: a newer one may mean other things by them. It changes
// nothing. What is not there yet is fine.
func CheckFormat(ctx context.Context, js jetstream.JetStream) error {
	streams := []string{protocol.AuditStream, protocol.EventStream}
	for _, bucket := range protocol.Buckets {
		streams = append(streams, "KV_"+bucket)
	}
	for _, name := range streams {
		stream, err := js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at the format of %s: %w", name, err)
		}
		if err := checkFormat(name, stream.CachedInfo().Config.Metadata); err != nil {
			return err
		}
	}
	return nil
}

func checkFormat(stream string, metadata map[string]string) error {
	text := metadata[formatKey]
	if text == "" {
		return nil // from before formats were written down
	}
	format, err := strconv.Atoi(text)
	if err == nil && format <= protocol.RecordFormat {
		return nil
	}
	return hint.New(fmt.Sprintf("the records in %s are of format %s, written by rehost %s; this is %s, which knows formats up to %d: nothing was changed",
		stream, text, metadata[writerKey], version.String(), protocol.RecordFormat),
		"start that version of rehost-controller or a newer one, or restore a backup from before the upgrade: rehost admin restore")
}
