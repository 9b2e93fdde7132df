package ship

import (
	"context"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"rehost/protocol"
)

// signalLoop takes in what the replica says.
func (s *Shipper) signalLoop(ctx context.Context, signals <-chan *nats.Msg) error {
	for {
		select {
		case m := <-signals:
			var sig protocol.Signal
			if err := json.Unmarshal(m.Data, &sig); err != nil {
				s.log.Warn("signal of the replica", "error", err)
				continue
			}
			if sig.Generation == s.cfg.Generation {
				s.signal(sig)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Shipper) signal(sig protocol.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.signal(sig)
	if !s.sess.open {
		return
	}
	if s.sess.base.Session == s.sess.id && sig.Durable.Session != s.sess.id {
		// It was accepted, and another one has followed it; or the broker forgot it.
		s.supersededLocked()
		return
	}
	if sig.Durable.Session == s.sess.id {
		s.sess.fresh = sig.Fresh
		s.durableLocked(sig.Durable)
	}
	if sig.Nak == nil || sig.Nak.Session != s.sess.id || !s.sess.open {
		return
	}
	s.log.Warn("replica cannot go on", "code", string(sig.Nak.Code), "detail", sig.Nak.Detail, "seq", sig.Durable.Seq)
	s.sess.reason = string(sig.Nak.Code)
	switch sig.Nak.Code {
	case protocol.NakGap, protocol.NakDigest, protocol.NakHash, protocol.NakMalformed: // a new session is all it takes
	case protocol.NakBaseUnknown:
		s.startOverLocked()
	case protocol.NakStale: // the clock went back since the epoch was forgotten
		s.granules.passEpoch(sig.Nak.Epoch)
	case protocol.NakGeometry:
		s.status.problem(protocol.ProblemVolume, "the volumes do not match the disks: "+sig.Nak.Detail, "disconnect the server and add it again")
	}
	s.endLocked()
}

// supersededLocked ends a session that the replica has left for another one, which is not ours.
func (s *Shipper) supersededLocked() {
	const reason = "the replica is in a session that this agent did not open"
	s.log.Error("session superseded", "session", s.sess.id.String(), "reason", reason)
	s.status.problem(protocol.ProblemConflict, reason, "look for a second agent with the identity of "+s.cfg.Server+", such as on a clone of its disk; everything is compared again when it is gone")
	s.sess.reason = reason
	s.endLocked()
	// Whoever it is gets some time to be noticed: two that push each other out at once would only make noise.
	s.sess.backoff = maxBackoff
}

// startOverLocked makes the next session a full one.
func (s *Shipper) startOverLocked() {
	s.granules.needAll()
	s.granules.setBase(protocol.Position{})
	s.sess.base, s.sess.full = protocol.Position{}, true
}

// durableLocked settles the frames up to p.
func (s *Shipper) durableLocked(p protocol.Position) {
	n := 0
	for n < len(s.sess.frames) && s.sess.frames[n].seq <= p.Seq {
		n++
	}
	if n == 0 {
		return
	}
	if last := s.sess.frames[n-1]; last.seq != p.Seq || last.digest != p.Digest {
		// Somebody else publishes under this session, or the replica is confused: what it has is unknown.
		s.log.Error("replica has a frame that was never sent", "seq", p.Seq)
		s.startOverLocked()
		s.endLocked()
		return
	}
	s.granules.setBase(p)
	s.sess.base, s.sess.full, s.sess.backoff = p, false, 0
	for _, f := range s.sess.frames[:n] {
		s.granules.settle(f.spans, true)
		s.sess.window -= f.bytes
		if f.job > 0 {
			s.granules.jobDurable(f.job)
		}
		if f.point != "" {
			s.status.pointDurable(f.point)
		}
		s.status.durable(s.spanBytes(f.spans))
	}
	s.sess.frames = append([]flight(nil), s.sess.frames[n:]...)
	s.status.clear(protocol.ProblemVolume)
	s.status.clear(protocol.ProblemConflict)
	s.notifyLocked()
}

func (s *Shipper) spanBytes(spans []span) (n int64) {
	for _, sp := range spans {
		n += sp.count * s.cfg.Disks[sp.disk].GranuleBytes
	}
	return n
}
