package apply

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"rehost/protocol"
)

// maxLate is how many sessions that came too late are remembered. A frame of one that is forgotten is refused, which is
// no harm: it is not the session that the agent is in.
const maxLate = 64

// maxLineage is how many earlier sessions a replica remembers. An agent that stands on an older one sends everything.
const maxLineage = 64

// action is what to do with a frame.
type action int

const (
	ignore   action = iota // it changes nothing: applied before, or of a session that is over
	take                   // it is the next of the session
	begin                  // it opens a session
	refuse                 // it shows that its session cannot go on
	outdated               // it is of a session that comes too late to begin; the current one goes on
)

// chain decides which frames may be applied, by session, seq and digest. It does no I/O.
type chain struct {
	server     string
	generation string
	sizes      []int64 // of the volumes

	position protocol.Position   // the last frame applied
	lineage  []protocol.Position // the last of earlier sessions of the same origin, newest first
	origin   string              // of the current session
	over     []protocol.Session  // sessions of other origins that were followed by another one, newest last
	fresh    bool                // no session before the current one; the volumes were created empty
	epoch    uint64              // of the last hello that was accepted; it never falls
	late     []protocol.Session  // whose hello came with an earlier epoch, newest last
	nak      *protocol.Nak       // of the session that cannot go on; nil when all is well
	naks     int
}

// judge says what to do with a frame. With refuse, the chain has noted why.
func (c *chain) judge(f *protocol.Frame) action {
	switch {
	case f.Server != protocol.ServerKey(c.server):
		c.refuse(f.Session, protocol.NakMalformed, "a frame of another server")
		return refuse
	case c.nak != nil && c.nak.Session == f.Session:
		return ignore
	case f.Session == c.position.Session && f.Seq <= c.position.Seq:
		return ignore
	}
	// A session that another one followed is over, however far it went: what it left unsent is sent by the later one, and
	// its frames would put older content over newer.
	if slices.ContainsFunc(c.lineage, func(p protocol.Position) bool { return p.Session == f.Session }) {
		return ignore
	}
	if slices.Contains(c.over, f.Session) {
		return ignore
	}
	if slices.Contains(c.late, f.Session) {
		c.outdate(f.Session)
		return ignore
	}
	if f.Type == protocol.FrameHello {
		return c.judgeHello(f)
	}
	switch {
	case f.Session != c.position.Session:
		c.refuse(f.Session, protocol.NakGap, fmt.Sprintf("frame %d of a session that was not opened here", f.Seq))
	case f.Seq != c.position.Seq+1:
		c.refuse(f.Session, protocol.NakGap, fmt.Sprintf("frame %d after %d", f.Seq, c.position.Seq))
	case f.Prev != c.position.Digest && !noDigest:
		c.refuse(f.Session, protocol.NakDigest, fmt.Sprintf("frame %d does not follow the one that is here", f.Seq))
	default:
		return c.inside(f)
	}
	return refuse
}

// inside checks that a frame stays on the volumes.
func (c *chain) inside(f *protocol.Frame) action {
	for _, e := range f.Extents {
		if int(e.Disk) >= len(c.sizes) || e.Offset+int64(e.Length) > c.sizes[e.Disk] {
			c.refuse(f.Session, protocol.NakGeometry, fmt.Sprintf("%d bytes at %d of disk %d are not on its volume", e.Length, e.Offset, e.Disk))
			return refuse
		}
	}
	return take
}

func (c *chain) judgeHello(f *protocol.Frame) action {
	var h protocol.Hello
	if err := json.Unmarshal(f.Meta, &h); err != nil {
		c.refuse(f.Session, protocol.NakMalformed, "hello: "+err.Error())
		return refuse
	}
	switch {
	case h.Generation != c.generation:
		c.refuse(f.Session, protocol.NakMalformed, "hello of generation "+h.Generation)
	case h.Epoch <= c.epoch:
		c.late = append(c.late[max(0, len(c.late)-maxLate+1):], f.Session)
		c.outdate(f.Session)
		return outdated
	case len(h.Disks) != len(c.sizes):
		c.refuse(f.Session, protocol.NakGeometry, fmt.Sprintf("%d disks for %d volumes", len(h.Disks), len(c.sizes)))
	case !c.fits(f.Session, h):
	case !h.Full && (h.Origin != c.origin || !c.covers(h.Base)):
		c.refuse(f.Session, protocol.NakBaseUnknown, fmt.Sprintf("session %s up to %d is not here", h.Base.Session, h.Base.Seq))
	default:
		return begin
	}
	return refuse
}

// helloOf returns the meta of a hello that was judged before.
func helloOf(f *protocol.Frame) (h protocol.Hello) {
	if json.Unmarshal(f.Meta, &h) != nil {
		return protocol.Hello{}
	}
	return h
}

// fits compares disks with volumes, and notes the first that is too large.
func (c *chain) fits(s protocol.Session, h protocol.Hello) bool {
	for i, d := range h.Disks {
		if d.SizeBytes > c.sizes[i] {
			c.refuse(s, protocol.NakGeometry, fmt.Sprintf("disk %s has %d bytes, its volume %d", d.Name, d.SizeBytes, c.sizes[i]))
			return false
		}
	}
	return true
}

// covers says whether everything up to base has been applied here.
func (c *chain) covers(base protocol.Position) bool {
	if base.Session == (protocol.Session{}) {
		return false
	}
	if base.Session == c.position.Session {
		return base.Seq <= c.position.Seq
	}
	for _, p := range c.lineage {
		if p.Session == base.Session {
			return base.Seq <= p.Seq
		}
	}
	return false
}

// outdate notes that a session came too late to begin. The agent that is in a later one does not care; one whose clock
// went back, and which has forgotten how far it was, learns what to stay above.
func (c *chain) outdate(s protocol.Session) {
	c.nak = &protocol.Nak{
		Session: s, Code: protocol.NakStale, Epoch: c.epoch, At: time.Now(), Detail: fmt.Sprintf("a session of epoch %d was accepted before", c.epoch),
	}
}

// advance notes that the frame was applied.
func (c *chain) advance(f *protocol.Frame, digest protocol.Digest) {
	if f.Type == protocol.FrameHello {
		h := helloOf(f)
		c.epoch = max(c.epoch, h.Epoch)
		if c.position.Session != (protocol.Session{}) {
			c.fresh = false
			c.lineage = append([]protocol.Position{c.position}, c.lineage[:min(len(c.lineage), maxLineage-1)]...)
		}
		if h.Origin != c.origin { // nobody knows any more what those changed
			for _, p := range c.lineage {
				c.over = append(c.over[max(0, len(c.over)-maxLate+1):], p.Session)
			}
			c.lineage, c.origin = nil, h.Origin
		}
		c.nak = nil
	}
	c.position = protocol.Position{Session: f.Session, Seq: f.Seq, Digest: digest}
}

func (c *chain) refuse(s protocol.Session, code protocol.NakCode, detail string) {
	c.nak = &protocol.Nak{Session: s, Code: code, Detail: detail, At: time.Now()}
	c.naks++
}
