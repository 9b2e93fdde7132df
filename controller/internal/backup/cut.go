// Package backup takes cuts of the control plane while the controller runs, and brings one back into the folder of a controller that is
// stopped. It owns what an old record must not be believed any more, and says it; it knows neither files nor keys: those are package
// rehost/internal/backup's and the broker's.
package backup

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"rehost/controller/internal/audit"
	"rehost/controller/internal/store"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

const (
	// pieceBytes is a part of a cut: a message that every bus takes.
	pieceBytes = 512 << 10
	// stillFor bounds how long the controller's writers wait for a cut.
	stillFor = 10 * time.Second
)

// buckets are those that a cut is of. Checkpoints say what is on the volumes, which goes on changing after the cut.
func buckets() (out []string) {
	for _, b := range protocol.Buckets {
		if b != protocol.BucketCheckpoints {
			out = append(out, b)
		}
	}
	return out
}

// Cuts makes cuts and hands them out.
type Cuts struct {
	store *store.Store
	js    jetstream.JetStream
	audit *audit.Log
	dir   string
	fleet string

	mu   sync.Mutex // guards the fields beneath
	cut  protocol.Cut
	file *os.File // of the cut; it has no name
}

// New makes a Cuts. A cut is kept in dir for the while; empty: where the system keeps temporary files.
func New(st *store.Store, js jetstream.JetStream, log *audit.Log, dir, fleet string) *Cuts {
	return &Cuts{store: st, js: js, audit: log, dir: dir, fleet: fleet}
}

// Piece returns a part of a cut, and makes the cut first when none is named.
func (c *Cuts) Piece(ctx context.Context, req protocol.BackupRequest) (protocol.BackupPiece, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if req.Cut == "" {
		c.forget()
		if err := c.make(ctx); err != nil {
			c.forget()
			return protocol.BackupPiece{}, fmt.Errorf("make a backup: %w", err)
		}
		return protocol.BackupPiece{Cut: c.cut}, nil
	}
	if req.Cut != c.cut.ID || req.Offset < 0 {
		return protocol.BackupPiece{}, &protocol.Problem{Code: protocol.ProblemConflict, Message: "the backup is not there any more: another one was begun, or the controller restarted", Hint: "run it again"}
	}
	piece := protocol.BackupPiece{Cut: c.cut, Bytes: make([]byte, pieceBytes)}
	n, err := c.file.ReadAt(piece.Bytes, req.Offset)
	if piece.Bytes = piece.Bytes[:n]; err != nil && !errors.Is(err, io.EOF) {
		return protocol.BackupPiece{}, fmt.Errorf("read the backup: %w", err)
	}
	if n == 0 {
		c.forget()
	}
	return piece, nil
}

// forget frees the space of the cut.
func (c *Cuts) forget() {
	if c.file != nil {
		_ = c.file.Close() // what was written of it is wanted no more
	}
	c.cut, c.file = protocol.Cut{}, nil
}

func (c *Cuts) make(ctx context.Context) (err error) {
	if c.file, err = os.CreateTemp(c.dir, ".backup-*"); err != nil {
		return err
	}
	if err := os.Remove(c.file.Name()); err != nil { // a crash leaves nothing
		return err
	}
	id := make([]byte, 8)
	_, _ = rand.Read(id) // never fails
	c.cut = protocol.Cut{ID: hex.EncodeToString(id), Fleet: c.fleet, Format: protocol.RecordFormat, Version: version.String()}
	sum := sha256.New()
	w := bufio.NewWriter(io.MultiWriter(c.file, sum))
	lines := json.NewEncoder(w)
	last, err := c.records(ctx, lines)
	if err == nil {
		err = c.audit.Export(ctx, last, func(e protocol.BackupEntry) error {
			c.cut.Audit++
			return lines.Encode(e)
		})
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		c.cut.Bytes, err = c.file.Seek(0, io.SeekCurrent)
	}
	c.cut.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return hint.Wrap(err, "look at the space on the controller's disk, and at its log")
}

// records writes all records as they are at one moment, and returns what the last message of the audit log was then.
func (c *Cuts) records(ctx context.Context, lines *json.Encoder) (last uint64, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, stillFor, fmt.Errorf("the records could not be read within %s", stillFor))
	defer cancel()
	return last, c.store.Still(ctx, func(ctx context.Context) error {
		c.cut.At = time.Now()
		for _, bucket := range buckets() {
			err := bus.Records(ctx, c.js, bucket, func(e protocol.BackupEntry) error {
				c.cut.Records++
				return lines.Encode(e)
			})
			if err != nil {
				return err
			}
		}
		last, err = c.audit.Last(ctx)
		return err
	})
}
