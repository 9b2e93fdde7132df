package ship

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"rehost/internal/bus"
	"rehost/protocol"
)

// session is one unbroken run of frames. Shipper.mu guards it.
type session struct {
	term   uint64 // grows when a session ends
	open   bool
	id     protocol.Session
	seq    uint64 // of the last frame
	prev   protocol.Digest
	frames []flight // published and not durable, oldest first
	window int64    // their bytes

	base    protocol.Position // the last that is known to be durable
	full    bool              // the replica has nothing that the next session could stand on
	fresh   bool              // the replica says that it was empty when this session began
	backoff time.Duration
	reason  string // why the last one ended
}

// flight is a frame that is not known to be durable.
type flight struct {
	seq    uint64
	digest protocol.Digest
	job    uint64
	spans  []span
	bytes  int64  // of the message
	point  string // id, of a point frame
}

// sent is a message that waits for the broker's acknowledgement.
type sent struct {
	term   uint64
	future jetstream.PubAckFuture
	buf    []byte
	point  string
}

// publishLoop opens sessions, and publishes what was picked, in order. It is the only publisher.
func (s *Shipper) publishLoop(ctx context.Context) error {
	probe := time.NewTicker(time.Second)
	defer probe.Stop()
	for ctx.Err() == nil {
		s.mu.Lock()
		open, wake := s.sess.open, s.wake
		s.mu.Unlock()
		if !open {
			s.open(ctx)
			continue
		}
		select {
		case j := <-s.ordered:
			s.publishJob(ctx, j)
		case <-probe.C:
			s.probe(ctx)
		case <-wake: // the session may have ended
		case <-ctx.Done():
		}
	}
	return nil
}

// open waits as long as the last failure asks for, then begins a session.
func (s *Shipper) open(ctx context.Context) {
	s.mu.Lock()
	pause := s.sess.backoff
	s.mu.Unlock()
	for timer := time.After(pause); timer != nil; {
		select {
		case j := <-s.ordered: // of the session that ended
			s.drop(ctx, j)
		case <-timer:
			timer = nil
		case <-ctx.Done():
			return
		}
	}
	s.mu.Lock()
	s.sess.backoff = min(max(2*s.sess.backoff, minBackoff), maxBackoff)
	s.sess.id, s.sess.seq, s.sess.prev, s.sess.fresh = newSession(), 0, protocol.Digest{}, false
	s.sess.open = true
	hello := protocol.Hello{
		Epoch: s.granules.nextEpoch(time.Now()), Origin: s.granules.file.origin.String(), Server: s.cfg.Server, Generation: s.cfg.Generation, BootID: s.cfg.BootID, Tier: s.cfg.Tier,
		Full: s.sess.full, Base: s.sess.base, Started: time.Now(),
	}
	if hello.Full {
		hello.Base = protocol.Position{}
	}
	term, id := s.sess.term, s.sess.id
	s.notifyLocked()
	s.mu.Unlock()
	for _, d := range s.cfg.Disks {
		hello.Disks = append(hello.Disks, protocol.HelloDisk{Name: d.Name, SizeBytes: d.SizeBytes, GranuleBytes: d.GranuleBytes})
	}
	meta, err := json.Marshal(hello)
	if err != nil {
		s.fail(term, "encode hello: "+err.Error())
		return
	}
	s.log.Info("session opened", "session", id.String(), "epoch", hello.Epoch, "full", hello.Full, "base_seq", hello.Base.Seq)
	s.publish(ctx, term, &protocol.Frame{Type: protocol.FrameHello, Meta: meta}, flight{})
}

func newSession() (id protocol.Session) {
	_, _ = rand.Read(id[:]) // crypto/rand does not fail: it ends the process instead
	return id
}

// drop ends a job that belongs to a session that ended. Its granules were made needed when that happened.
func (s *Shipper) drop(ctx context.Context, j *job) {
	select {
	case <-j.ready:
		s.finish(j, errEnded)
	case <-ctx.Done():
		s.abandon(j)
	}
}

// abandon leaves a job that a reader may still work on to [Shipper.release]: its buffer must not go to somebody else meanwhile.
func (s *Shipper) abandon(j *job) { s.left = append(s.left, j) }

func (s *Shipper) publishJob(ctx context.Context, j *job) {
	select {
	case <-j.ready:
	case <-ctx.Done():
		s.abandon(j)
		return
	}
	s.mu.Lock()
	current := s.sess.term == j.term
	if current && j.err == nil {
		s.equalLocked(j)
	}
	s.mu.Unlock()
	switch {
	case !current:
		s.finish(j, errEnded)
		return
	case j.err != nil:
		s.unreadable(j)
		return
	case j.point == nil && len(j.spans) == 0:
		s.finish(j, nil)
		return
	}
	if j.point != nil {
		meta, err := json.Marshal(j.point)
		if err != nil {
			s.finish(j, err)
			return
		}
		j.frame = protocol.Frame{Type: protocol.FramePoint, Meta: meta}
	}
	fl := flight{job: j.id, spans: j.spans}
	if j.point != nil {
		fl.point = j.point.ID
	}
	if s.publish(ctx, j.term, &j.frame, fl) {
		s.finish(j, nil)
	} else {
		s.finish(j, errEnded)
	}
}

// equalLocked settles what a job found to be on the replica already.
func (s *Shipper) equalLocked(j *job) {
	if j.kind != kindCompare {
		return
	}
	s.granules.compared(j.equal, j.spans)
	s.status.durable(s.spanBytes(j.equal))
	if len(j.spans) > 0 {
		return
	}
	// No frame will say that the job is durable.
	if n := len(s.sess.frames); n > 0 {
		s.sess.frames[n-1].job = j.id
	} else {
		s.granules.jobDurable(j.id)
	}
	s.notifyLocked()
}

// unreadable puts the granules of a job that could not be read back, and says so.
func (s *Shipper) unreadable(j *job) {
	s.mu.Lock()
	if s.sess.term == j.term {
		s.granules.settle(append(j.spans, j.equal...), false)
	}
	s.mu.Unlock()
	if errors.Is(j.err, errStopped) {
		s.finish(j, j.err)
		return
	}
	if errors.Is(j.err, errCompare) { // of a comparison, which goes on when there is one
		s.log.Warn("comparison waits", "error", j.err)
	} else if s.status.unreadable(j.err) {
		s.log.Error("source disk unreadable, it is tried again", "error", j.err)
	}
	s.finish(j, j.err)
}

// publish makes f the session's next frame, waits for room in the window, and sends it. It says whether the frame is on
// its way; when it is not, the session has ended.
func (s *Shipper) publish(ctx context.Context, term uint64, f *protocol.Frame, fl flight) bool {
	size := int64(protocol.HeaderSize + len(f.Extents)*protocol.ExtentSize + len(f.Meta) + len(f.Payload))
	if !s.throttle(ctx, term, size) {
		return false
	}
	window := s.status.window(s.cfg.Window)
	over := s.status.wait(legWindow)
	err := s.waitFor(ctx, func() bool {
		return s.sess.term != term || len(s.sess.frames) == 0 || s.sess.window+size <= window && len(s.sess.frames) < maxFrames
	})
	over()
	if err != nil {
		return false
	}
	if s.sess.term != term {
		s.mu.Unlock()
		return false
	}
	s.sess.seq++
	f.Session, f.Seq, f.Prev, f.Server = s.sess.id, s.sess.seq, s.sess.prev, protocol.ServerKey(s.cfg.Server)
	s.mu.Unlock()

	buf := s.msgBuf(ctx, int(size))
	if buf == nil {
		return false
	}
	msg, digest := f.Encode(buf[:0])
	fl.seq, fl.digest, fl.bytes = f.Seq, digest, size

	s.mu.Lock()
	if s.sess.term != term {
		s.mu.Unlock()
		s.freeMsg(buf)
		return false
	}
	s.sess.prev = digest
	s.sess.frames = append(s.sess.frames, fl)
	s.sess.window += size
	s.mu.Unlock()

	// One try only: a second one by the library could come after frames that were published meanwhile.
	future, err := s.js.PublishMsgAsync(&nats.Msg{Subject: protocol.BlocksSubject(s.cfg.Server), Data: msg}, jetstream.WithRetryAttempts(1))
	if err != nil {
		s.freeMsg(buf)
		s.fail(term, "publish: "+err.Error())
		return false
	}
	s.status.sent(int64(len(f.Payload)))
	s.acks <- sent{term: term, future: future, buf: buf, point: fl.point} // has room for every token
	return true
}

// msgBuf returns memory for one message, when the broker has acknowledged enough of the earlier ones; nil when ctx ended.
func (s *Shipper) msgBuf(ctx context.Context, size int) []byte {
	over := s.status.wait(legAck)
	defer over()
	select {
	case s.unacked <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	select {
	case b := <-s.msgBufs:
		if cap(b) >= size {
			return b
		}
	default:
	}
	return make([]byte, 0, size)
}

func (s *Shipper) freeMsg(b []byte) {
	select {
	case s.msgBufs <- b:
	default:
	}
	<-s.unacked
}

// ackLoop waits for the broker's acknowledgements in order. They free memory and say nothing of durability.
func (s *Shipper) ackLoop(ctx context.Context) error {
	for {
		select {
		case m := <-s.acks:
			select {
			case <-m.future.Ok():
				s.acked(m)
			case err := <-m.future.Err():
				s.refused(m, err)
			case <-ctx.Done():
				return nil
			}
			s.freeMsg(m.buf)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Shipper) acked(m sent) {
	s.status.clear(protocol.ProblemStreamFull)
	if m.point != "" {
		s.status.pointAcked(m.point)
	}
}

func (s *Shipper) refused(m sent, err error) {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok && api.ErrorCode == bus.CodeStreamFull {
		s.status.problem(protocol.ProblemStreamFull, "the broker's stream is full: the replication server does not keep up",
			"check the replication server: rehost status; it goes on by itself when there is room")
	}
	s.fail(m.term, fmt.Sprintf("broker refused a frame: %v", err))
}

// fail ends the session of an term: nothing of it that is not durable counts any more.
func (s *Shipper) fail(term uint64, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sess.term != term {
		return
	}
	if s.sess.reason != reason {
		s.log.Warn("session ended", "session", s.sess.id.String(), "seq", s.sess.seq, "reason", reason)
	}
	s.sess.reason = reason
	s.endLocked()
}

func (s *Shipper) endLocked() {
	for _, f := range s.sess.frames {
		if f.point != "" {
			s.status.pointLost(f.point)
		}
	}
	s.sess.term++
	s.sess.open = false
	s.sess.frames, s.sess.window = nil, 0
	s.granules.revert()
	s.notifyLocked()
}

// probe sends an empty frame when the replica lives and yet does not move: should frames have been lost after the last
// one that it saw, only a later one shows it the gap. The same when it is not where the agent believes it to
// be, as on a new volume: with a source that nobody writes to, nothing else would show it.
func (s *Shipper) probe(ctx context.Context) {
	s.mu.Lock()
	stuck := s.sess.open && (len(s.sess.frames) > 0 || s.status.elsewhere(s.sess.base)) && s.status.stuck(probeAfter)
	term := s.sess.term
	room := s.sess.window < s.cfg.Window && len(s.sess.frames) < maxFrames
	s.mu.Unlock()
	if stuck && room {
		s.status.moved()
		s.publish(ctx, term, &protocol.Frame{Type: protocol.FrameBlocks}, flight{})
	}
}
