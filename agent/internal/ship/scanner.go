package ship

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/zeebo/xxh3"

	"rehost/protocol"
)

const (
	// scanBytes is what one request asks for: large enough that a slow link is filled by few of them.
	scanBytes = 16 << 20
	// scanAhead is how many ranges are asked for before they are needed.
	scanAhead = 2
	// scanKept is how many ranges' hashes are remembered.
	scanKept = 8
	// scanTry is how long a reply may take, which reads a range of a slow volume and crosses the link; scanTries of them
	// may be lost.
	scanTry   = 10 * time.Second
	scanTries = 3
)

type hash = [16]byte

func hashOf(b []byte) hash { return xxh3.Hash128(b).Bytes() }

// scanner asks the replica for hashes. What it remembers is of one session; whatever reaches the replica meanwhile was
// sent for a granule that is needed or in flight here.
type scanner struct {
	nc      *nats.Conn
	cfg     *Config
	replies chan *nats.Msg
	tasks   sync.WaitGroup // requests under way; they end with the context of Run

	mu      sync.Mutex // guards the fields beneath
	next    uint64
	waiting map[uint64]chan protocol.ScanReply
	session protocol.Session // of chunks
	chunks  map[chunkKey]*chunk
	order   []chunkKey // oldest first
}

// chunkKey names an aligned range of a disk.
type chunkKey struct {
	disk int
	at   int64 // first granule divided by the granules of a chunk
}

// chunk is what was asked for at once.
type chunk struct {
	ready  chan struct{} // closed when hashes and err are set
	hashes []byte
	err    error
}

func newScanner(nc *nats.Conn, cfg *Config) *scanner {
	return &scanner{nc: nc, cfg: cfg, replies: make(chan *nats.Msg, 64), waiting: map[uint64]chan protocol.ScanReply{}, chunks: map[chunkKey]*chunk{}}
}

// loop hands replies to those who wait for them.
func (c *scanner) loop(ctx context.Context) error {
	defer c.tasks.Wait()
	for {
		select {
		case m := <-c.replies:
			var r protocol.ScanReply
			if json.Unmarshal(m.Data, &r) != nil {
				continue
			}
			c.mu.Lock()
			w := c.waiting[r.ID]
			delete(c.waiting, r.ID)
			c.mu.Unlock()
			if w != nil {
				w <- r // has room for it
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// forget drops what was asked for: from now on the replica's content of now counts.
func (c *scanner) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.order = nil
	clear(c.chunks)
}

// perChunk is how many granules of a disk one request asks for.
func (c *scanner) perChunk(disk int) int64 {
	return min(max(scanBytes/c.cfg.Disks[disk].GranuleBytes, 1), protocol.MaxScanGranules)
}

// hashes returns the replica's hashes of the granules of sp, which ranges asked for ahead have mostly brought.
func (c *scanner) hashes(ctx context.Context, session protocol.Session, sp span) ([]hash, error) {
	per := c.perChunk(sp.disk)
	all := make([]hash, 0, sp.count)
	for i := sp.first; i < sp.first+sp.count; {
		ch := c.chunk(ctx, session, chunkKey{sp.disk, i / per})
		select {
		case <-ch.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if ch.err != nil {
			return nil, ch.err
		}
		for end := min((i/per+1)*per, sp.first+sp.count); i < end; i++ {
			all = append(all, hash(ch.hashes[i%per*16:]))
		}
	}
	return all, nil
}

// chunk returns a range that has been asked for, and asks for those behind it.
func (c *scanner) chunk(ctx context.Context, session protocol.Session, key chunkKey) *chunk {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session != session {
		c.session, c.order = session, nil
		clear(c.chunks)
	}
	wanted := c.beginLocked(ctx, key)
	last := (granuleCount(c.cfg.Disks[key.disk]) - 1) / c.perChunk(key.disk)
	for k := key.at + 1; k <= min(key.at+scanAhead, last); k++ {
		c.beginLocked(ctx, chunkKey{key.disk, k})
	}
	return wanted
}

// beginLocked asks for a range, unless that was done and has not failed.
func (c *scanner) beginLocked(ctx context.Context, key chunkKey) *chunk {
	old, known := c.chunks[key]
	if known && !old.failed() {
		return old
	}
	ch := &chunk{ready: make(chan struct{})}
	c.chunks[key] = ch
	if !known {
		c.order = append(c.order, key)
	}
	if len(c.order) > scanKept {
		delete(c.chunks, c.order[0])
		c.order = c.order[1:]
	}
	session, per := c.session, c.perChunk(key.disk)
	c.tasks.Go(func() {
		defer close(ch.ready)
		first := key.at * per
		ch.hashes, ch.err = c.ask(ctx, session, span{key.disk, first, min(per, granuleCount(c.cfg.Disks[key.disk])-first)})
	})
	return ch
}

func (ch *chunk) failed() bool {
	select {
	case <-ch.ready:
		return ch.err != nil
	default:
		return false
	}
}

var (
	errNoReply = errors.New("the replication server does not answer")
	errShort   = errors.New("the replication server answered with too few hashes")
)

// ask asks for the hashes of a span, again when nothing comes.
func (c *scanner) ask(ctx context.Context, session protocol.Session, sp span) ([]byte, error) {
	d := c.cfg.Disks[sp.disk]
	q := protocol.ScanRequest{
		Generation: c.cfg.Generation, Session: session, Disk: sp.disk, Offset: sp.first * d.GranuleBytes, GranuleBytes: d.GranuleBytes,
	}
	q.Length = min(sp.count*d.GranuleBytes, d.SizeBytes-q.Offset)
	for range scanTries {
		r, err := c.once(ctx, q)
		switch {
		case errors.Is(err, errNoReply):
			continue
		case err != nil:
			return nil, err
		case r.Error != "":
			return nil, errors.New(r.Error)
		case int64(len(r.Hashes)) != 16*sp.count:
			return nil, errShort
		}
		return r.Hashes, nil
	}
	return nil, errNoReply
}

func (c *scanner) once(ctx context.Context, q protocol.ScanRequest) (protocol.ScanReply, error) {
	w := make(chan protocol.ScanReply, 1)
	c.mu.Lock()
	c.next++
	q.ID = c.next
	c.waiting[q.ID] = w
	c.mu.Unlock()
	defer func() { c.mu.Lock(); delete(c.waiting, q.ID); c.mu.Unlock() }()
	body, err := json.Marshal(q)
	if err != nil {
		return protocol.ScanReply{}, err
	}
	_ = c.nc.Publish(protocol.ScanSubject(c.cfg.Server), body) // while disconnected there is no reply either
	select {
	case r := <-w:
		return r, nil
	case <-time.After(scanTry):
		return protocol.ScanReply{}, errNoReply
	case <-ctx.Done():
		return protocol.ScanReply{}, ctx.Err()
	}
}
