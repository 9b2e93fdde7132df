package protocol

import "time"

// Position names one frame of a server's chain.
type Position struct {
	Session Session `json:"session"`
	Seq     uint64  `json:"seq"`
	Digest  Digest  `json:"digest"`
}

// Hello is the meta of a hello frame. A session stands on what the replica already has:
// either on nothing (Full: every granule that the disk holds will be sent, or compared by its hash), or on Base,
// the last position that the agent knows to be durable; then everything that changed
// after Base will be sent again. A replica that does not know Base answers with a [Nak].
//
// Epoch orders the sessions of a generation: each hello has a greater one than all before it, from 1. A hello that
// comes late, over a connection of an agent that was killed meanwhile, is told by it.
//
// Origin names the memory that knows what changed since Base. When sessions of another origin came in between, as of a
// second agent with the same identity, nobody knows what they changed: Base is not accepted then.
type Hello struct {
	Epoch      uint64      `json:"epoch"`
	Origin     string      `json:"origin,omitempty"`
	Server     string      `json:"server"`
	Generation string      `json:"generation"`
	BootID     string      `json:"boot_id"`
	Disks      []HelloDisk `json:"disks"`
	Full       bool        `json:"full"`
	Base       Position    `json:"base"`
	Tier       string      `json:"tier"` // of the tracker
	Started    time.Time   `json:"started"`
}

// HelloDisk describes one disk; its index in the list is the extents' Disk.
type HelloDisk struct {
	Name         string `json:"name"`
	SizeBytes    int64  `json:"size_bytes"`
	GranuleBytes int64  `json:"granule_bytes"`
}

// Grade says how consistent a point is.
type Grade string

// Grades. A state without one of them is fuzzy and is not a point.
const (
	GradeFilesystem Grade = "filesystem-consistent"
	GradeCrash      Grade = "crash-consistent"
)

// PointMark is the meta of a point frame.
type PointMark struct {
	ID       string        `json:"id"`
	Grade    Grade         `json:"grade"`
	Frozen   time.Duration `json:"frozen_ns"` // how long the filesystems were frozen
	Taken    time.Time     `json:"taken"`     // the source's wall clock, within the frozen window
	Fenced   bool          `json:"fenced"`    // the source's writers were stopped before
	Excluded []string      `json:"excluded,omitempty"`
}

// Checkpoint is what a replication server knows to be durable on the volumes. It is
// written after the flush, and before the agent is told.
type Checkpoint struct {
	Server     string     `json:"server"`
	Generation string     `json:"generation"`
	Position   Position   `json:"position"`
	Epoch      uint64     `json:"epoch"`            // of the last hello that was accepted
	StreamSeq  uint64     `json:"stream_seq"`       // a hint for the purge, never a proof
	Lineage    []Position `json:"lineage"`          // the last durable position of earlier sessions of the same origin, newest first
	Origin     string     `json:"origin,omitempty"` // of the current session
	Volumes    []string   `json:"volumes"`          // volume ids in disk order: the checkpoint speaks of these and no others
	Fresh      bool       `json:"fresh,omitempty"`  // no session before the current one wrote to the volumes, which were created empty
	Held       string     `json:"held"`             // the point whose snapshot is awaited, or empty
	Mark       *PointMark `json:"mark,omitempty"`   // of Held
	At         time.Time  `json:"at"`
}

// Signal tells an agent how far the replica is. It is sent at each change and repeated
// every second, since core NATS may lose it.
type Signal struct {
	Generation string   `json:"generation"`
	Durable    Position `json:"durable"`
	Applied    uint64   `json:"applied"`         // seq written but maybe not yet flushed, in Durable's session
	Fresh      bool     `json:"fresh,omitempty"` // Durable's session began on volumes that were created empty and never written to
	Load       Load     `json:"load"`
	Held       string   `json:"held,omitempty"` // the point at which the replica stands still, so that silence is no fault
	Nak        *Nak     `json:"nak,omitempty"`
}

// Load says what a replica did in the last seconds, as shares of the time from 0 to 1. It is the evidence for who is slow.
type Load struct {
	Waiting  float64 `json:"waiting"`  // nothing came from the broker
	Writing  float64 `json:"writing"`  // verifying and writing to the volumes
	Flushing float64 `json:"flushing"` // making the volumes durable
}

// Nak tells an agent that the replica cannot go on with a session: all that is not durable
// becomes need again, and the agent opens a new session. It is repeated until a new hello comes.
type Nak struct {
	Session Session   `json:"session"` // the session that cannot go on
	Code    NakCode   `json:"code"`
	Epoch   uint64    `json:"epoch,omitempty"` // with NakStale: the next hello must have a greater one
	Detail  string    `json:"detail"`
	At      time.Time `json:"at"`
}

// NakCode says why a session cannot go on.
type NakCode string

// Nak codes.
const (
	NakGap         NakCode = "gap"          // a seq is missing
	NakDigest      NakCode = "digest"       // the chain is broken
	NakHash        NakCode = "hash"         // an extent's bytes do not match its hash
	NakMalformed   NakCode = "malformed"    // not a frame
	NakBaseUnknown NakCode = "base-unknown" // the replica does not have the base: a full session is needed
	NakGeometry    NakCode = "geometry"     // the disks do not match the volumes
	NakStale       NakCode = "stale"        // a later session was accepted before; the other sessions are not disturbed
)
