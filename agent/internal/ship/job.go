package ship

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"rehost/internal/blockdev"
	"rehost/internal/codec"
	"rehost/protocol"
)

// Reads that fail are tried this often, with a growing pause.
const (
	readTries = 4
	readPause = 100 * time.Millisecond
)

var (
	errStopped = errors.New("the agent is stopping")
	errEnded   = errors.New("the session ended before the frame was published")
)

// job is what becomes one frame: picked, read and packed by anybody, published in order.
type job struct {
	id    uint64
	term  uint64 // of the session that it was picked for; a job of an earlier one is dropped
	kind  kind
	spans []span
	// session is that of term. equal are spans that were picked, too, and that the replica holds already.
	session protocol.Session
	equal   []span
	// memory holds what was read already, while frozen; nil: read from the disks.
	memory [][]byte
	point  *protocol.PointMark // of a point frame, which has no spans

	ready chan struct{} // closed when buf, frame and err are set
	buf   []byte        // of the pool: raw in the first half, compressed in the second
	frame protocol.Frame
	err   error
	// done is told what became of a point's job: nil when it was published.
	done chan<- error
}

// extents lists what a job covers; the last granule of a disk may be short.
func (s *Shipper) extents(spans []span) []protocol.Extent {
	var all []protocol.Extent
	for _, sp := range spans {
		d := s.cfg.Disks[sp.disk]
		start := sp.first * d.GranuleBytes
		end := min(start+sp.count*d.GranuleBytes, d.SizeBytes)
		all = append(all, protocol.Extent{Disk: uint16(sp.disk), Offset: start, Length: uint32(end - start)})
	}
	return all
}

// pickLoop makes jobs of what is needed, as long as there is a session and no point is being taken.
func (s *Shipper) pickLoop(ctx context.Context) error {
	for {
		buf, err := s.pool.Get(ctx)
		if err != nil {
			return nil //nolint:nilerr // the end of ctx is the regular end
		}
		var j *job
		err = s.waitFor(ctx, func() bool {
			if !s.sess.open || s.held || s.status.paused() {
				return false
			}
			spans, kind := s.granules.pick(s.jobs+1, protocol.MaxRaw)
			if spans == nil {
				return false
			}
			j = s.newJobLocked(spans)
			j.kind = kind
			return true
		})
		if err != nil {
			s.pool.Put(buf)
			return nil //nolint:nilerr // the end of ctx is the regular end
		}
		s.mu.Unlock()
		j.buf = buf
		if !s.enqueue(ctx, j) {
			return nil
		}
	}
}

func (s *Shipper) newJobLocked(spans []span) *job {
	s.jobs++
	s.busy++
	return &job{id: s.jobs, term: s.sess.term, session: s.sess.id, spans: spans, ready: make(chan struct{})}
}

// enqueue gives a job its place in the order and hands it to the readers.
func (s *Shipper) enqueue(ctx context.Context, j *job) bool {
	select {
	case s.ordered <- j:
	case <-ctx.Done():
		s.finish(j, errStopped)
		return false
	}
	select {
	case s.toRead <- j:
		return true
	case <-ctx.Done():
		// It has its place in the order, and who publishes waits for it: no reader will make it ready.
		j.err = errStopped
		close(j.ready)
		return false
	}
}

// finish gives back what a job holds, and tells who waits for it.
func (s *Shipper) finish(j *job, err error) {
	if j.buf != nil {
		s.pool.Put(j.buf)
		j.buf = nil
	}
	if j.done != nil {
		j.done <- err
	}
	s.mu.Lock()
	s.busy--
	s.notifyLocked()
	s.mu.Unlock()
}

func (s *Shipper) readLoop(ctx context.Context) error {
	runtime.LockOSThread() // the I/O priority is the thread's
	var packer codec.Packer
	for {
		select {
		case j := <-s.toRead:
			blockdev.Background(j.kind != kindDelta)
			s.prepare(ctx, j, &packer)
			close(j.ready)
		case <-ctx.Done():
			return nil
		}
	}
}

// prepare reads and packs a job.
func (s *Shipper) prepare(ctx context.Context, j *job, packer *codec.Packer) {
	if j.point != nil {
		return
	}
	begun := time.Now()
	defer func() { s.status.spend(legPack, time.Since(begun)) }()
	extents := s.extents(j.spans)
	raw := 0
	if j.memory != nil {
		for _, b := range j.memory {
			raw += copy(j.buf[raw:protocol.MaxRaw], b)
		}
	} else {
		for _, e := range extents {
			if j.err = s.read(ctx, e, j.buf[raw:raw+int(e.Length)], readTries); j.err != nil {
				return
			}
			raw += int(e.Length)
		}
		s.status.spend(legRead, time.Since(begun))
		begun = time.Now()
	}
	bytes := j.buf[:raw]
	if j.kind == kindCompare {
		if bytes, j.err = s.compare(ctx, j, bytes); j.err != nil {
			return
		}
		extents = s.extents(j.spans)
	}
	j.frame.Type = protocol.FrameBlocks
	packer.Pack(&j.frame, extents, bytes, j.buf[protocol.MaxRaw:])
}

// read reads one extent, again and again when the disk refuses, for a bounded time.
func (s *Shipper) read(ctx context.Context, e protocol.Extent, b []byte, tries int) error {
	d := s.cfg.Disks[e.Disk]
	var err error
	for try := range tries {
		if try > 0 {
			select {
			case <-time.After(time.Duration(try) * readPause):
			case <-ctx.Done():
				return errStopped
			}
		}
		var n int
		if n, err = d.Reader.ReadAt(b, e.Offset); n == len(b) {
			s.status.read(int64(n))
			return nil
		}
	}
	return fmt.Errorf("read %s at %d, %d bytes: %w", d.Name, e.Offset, e.Length, err)
}
