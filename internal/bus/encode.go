package bus

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"

	"rehost/internal/hint"
)

const (
	// packFrom is the size from which on a message or record is compressed: a broker of somebody else's takes 1 MiB by
	// default, and a configuration of 10,000 servers is more than that. What is smaller stays readable on the bus.
	packFrom = 64 << 10
	// maxUnpacked bounds what a message or record may become: the status of 20,000 servers.
	maxUnpacked = 64 << 20
)

// packed is how what is compressed begins. No JSON does.
var packed = []byte{0x1f, 0x8b}

// Encode makes of a value what travels and is kept: JSON, compressed with gzip when it is large.
func Encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil || len(text) < packFrom {
		return text, err
	}
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(text); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Decode is the inverse of [Encode]. What would become too large is refused.
func Decode(data []byte, v any) error {
	text, err := unpack(data)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// DecodeKnown is [Decode] for what is going to be written back: what v has no place for is an error, since it would be lost.
func DecodeKnown(data []byte, v any) error {
	text, err := unpack(data)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// unpack returns the JSON of what [Encode] made.
func unpack(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, packed) {
		return data, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxUnpacked+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("more than %d MiB when unpacked", maxUnpacked>>20)
	}
	return text, nil
}

// fits says what to do when a message is larger than the broker takes.
func fits(err error, size int, limit int64) error {
	if !errors.Is(err, nats.ErrMaxPayload) {
		return err
	}
	return hint.Wrap(fmt.Errorf("the message has %d bytes, the bus takes %d: %w", size, limit, err),
		"ask for less at once, or raise max_payload of the bus")
}
