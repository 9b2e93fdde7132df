package protocol

import "time"

// ScanRequest asks a replica for the hashes of a range of a disk, granule by granule, so that an agent can compare without
// sending. The agent publishes it on [ScanSubject]; a request or a reply that is lost is asked for again.
type ScanRequest struct {
	ID           uint64  `json:"id"` // chosen by the agent
	Generation   string  `json:"generation"`
	Session      Session `json:"session"` // the one that the replica must be in
	Disk         int     `json:"disk"`
	Offset       int64   `json:"offset"`
	Length       int64   `json:"length"`        // at most MaxScanGranules granules; the last one may be short
	GranuleBytes int64   `json:"granule_bytes"` // a power of two, at most MaxRaw
}

// MaxScanGranules bounds a [ScanRequest], and with it the size of the reply.
const MaxScanGranules = 4096

// ScanReply has what the volume holds at one moment after the request came. What was written to it since the last flush
// counts: the frames that brought it are not durable for the agent, which sends them again should they be lost.
type ScanReply struct {
	ID     uint64 `json:"id"`
	Hashes []byte `json:"hashes"`          // XXH3-128 of each granule, 16 bytes each
	Error  string `json:"error,omitempty"` // why there are none
}

// SnapshotRequest asks the controller what the snapshot of a disk at one of the agent's own points holds. It goes to
// [SnapshotSubject].
type SnapshotRequest struct {
	Point        string `json:"point"`
	Disk         string `json:"disk"` // its name
	Offset       int64  `json:"offset"`
	Length       int64  `json:"length"`        // at most MaxScanGranules granules; the last one may be short
	GranuleBytes int64  `json:"granule_bytes"` // a power of two
}

// SnapshotReply has the hashes that were asked for.
type SnapshotReply struct {
	Hashes []byte `json:"hashes"` // XXH3-128 of each granule, 16 bytes each
}

// VerifyOrder asks for a comparison of everything that is clean with the replica, or with the snapshots of a point. It is
// repeated until a [VerifyReport] of its id says that the pass has ended.
type VerifyOrder struct {
	ID    string `json:"id"`
	Point string `json:"point,omitempty"` // the newest one that the agent has sent; empty: the replica
}

// VerifyReport is the state of the newest pass over the disks, ordered or in the background.
type VerifyReport struct {
	ID          string    `json:"id"`              // empty: in the background
	Point       string    `json:"point,omitempty"` // whose snapshots were compared; empty: the replica was
	Total       int64     `json:"total_bytes"`
	Done        int64     `json:"done_bytes"`    // compared or skipped
	Skipped     int64     `json:"skipped_bytes"` // was being written meanwhile, or is free space that was never sent
	Differences int64     `json:"differences"`   // granules that differed without a reason; those of the replica were sent again
	Started     time.Time `json:"started"`
	Ended       time.Time `json:"ended,omitzero"`
	Last        time.Time `json:"last,omitzero"` // end of the newest whole pass over the replica without differences
	Problem     *Problem  `json:"problem,omitempty"`
}
