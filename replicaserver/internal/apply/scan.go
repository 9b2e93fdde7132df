package apply

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go"
	"github.com/zeebo/xxh3"

	"rehost/internal/blockdev"
	"rehost/protocol"
)

// scanQueue is how many requests may wait; what does not fit is dropped, and asked for again.
const scanQueue = 16

// scanner answers an agent that wants to compare its disks with the volumes. It only reads, and never waits for the
// frames that are being applied: a granule that changes meanwhile is one that the agent knows to be in flight.
type scanner struct {
	replica *Replica
	buffer  []byte // for direct I/O
}

// scanLoop answers until ctx ends.
func (r *Replica) scanLoop(ctx context.Context, requests <-chan *nats.Msg) {
	buffer, err := blockdev.AlignedBuffer(protocol.MaxRaw)
	if err != nil {
		r.log.Error("no memory to hash the volumes with", "error", err)
		return
	}
	defer blockdev.FreeBuffer(buffer) //nolint:errcheck // it is ours and whole
	s := scanner{replica: r, buffer: buffer}
	for {
		select {
		case m := <-requests:
			s.handle(ctx, m.Data)
		case <-ctx.Done():
			return
		}
	}
}

func (s *scanner) handle(ctx context.Context, body []byte) {
	r := s.replica
	var q protocol.ScanRequest
	if err := json.Unmarshal(body, &q); err != nil || q.Generation != r.generation {
		return // of another generation: its replica answers, or nobody
	}
	reply := protocol.ScanReply{ID: q.ID}
	hashes, err := s.hashes(ctx, q)
	if err != nil {
		reply.Error = err.Error()
	}
	reply.Hashes = hashes
	text, err := json.Marshal(reply)
	if err == nil {
		err = r.deps.Conn.Publish(protocol.HashesSubject(r.server), text)
	}
	if err != nil {
		r.log.Debug("answer a scan", "error", err) // it is asked for again
	}
}

// errOtherSession is for a request that waits for a session that is not open here.
var errOtherSession = errors.New("the replica is in another session")

// hashes reads a range of a volume. The session must be open: then everything of earlier ones is durable.
func (s *scanner) hashes(ctx context.Context, q protocol.ScanRequest) ([]byte, error) {
	r := s.replica
	r.mu.Lock()
	session := r.session
	r.mu.Unlock()
	if session != q.Session {
		return nil, errOtherSession
	}
	g := q.GranuleBytes
	if q.Disk < 0 || q.Disk >= len(r.targets) || g < 512 || g > protocol.MaxRaw || g&(g-1) != 0 || q.Offset < 0 || q.Offset%g != 0 ||
		q.Length <= 0 || q.Length > g*protocol.MaxScanGranules || q.Offset > r.targets[q.Disk].SizeBytes()-q.Length {
		return nil, fmt.Errorf("%d bytes at %d of disk %d are not a range of its volume", q.Length, q.Offset, q.Disk)
	}
	var all []byte
	for done := int64(0); done < q.Length; {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n := min(q.Length-done, int64(len(s.buffer)))
		b := s.buffer[:n]
		if m, err := r.targets[q.Disk].ReadAt(b, q.Offset+done); int64(m) != n {
			return nil, fmt.Errorf("read volume %s at %d: %w", r.volumeIDs[q.Disk], q.Offset+done, errors.Join(err, io.ErrUnexpectedEOF))
		}
		for ; len(b) > 0; b = b[min(g, int64(len(b))):] {
			h := xxh3.Hash128(b[:min(g, int64(len(b)))]).Bytes()
			all = append(all, h[:]...)
		}
		done += n
	}
	return all, nil
}
