package protocol

import (
	"encoding/json"
	"time"
)

// BackupRequest asks for a backup of the control plane, piece by piece: without a cut for a new one, then for its pieces. One cut is
// kept at a time: a new one ends the one before.
type BackupRequest struct {
	Cut    string `json:"cut,omitempty"`
	Offset int64  `json:"offset,omitempty"`
}

// Reads implements [Reader]: that a backup is made is in the audit log, not each of its pieces.
func (r BackupRequest) Reads() bool { return r.Cut != "" }

// BackupPiece is a part of a cut. Without bytes it is the end.
type BackupPiece struct {
	Cut   Cut    `json:"cut"`
	Bytes []byte `json:"bytes"`
}

// Cut is the control plane at one moment: a JSON object ([BackupEntry]) for each record, and then for each message of the audit log. What
// replicas hold is not in it: that would be wrong by the time it is restored. Nor are events.
type Cut struct {
	ID      string    `json:"id"`
	At      time.Time `json:"at"`
	Fleet   string    `json:"fleet"`   // as its keys name it; empty: the bus is somebody else's
	Format  int       `json:"format"`  // of the records: [RecordFormat] of the controller
	Version string    `json:"version"` // of the controller
	Bytes   int64     `json:"bytes"`
	SHA256  string    `json:"sha256"` // hexadecimal
	Records int       `json:"records"`
	Audit   int       `json:"audit"` // messages of the audit log
}

// BackupEntry is one record, or one message of the audit log.
type BackupEntry struct {
	Bucket string          `json:"bucket,omitempty"`
	Key    string          `json:"key,omitempty"`
	Audit  uint64          `json:"audit,omitempty"` // place in the log; then there is no bucket
	Value  json.RawMessage `json:"value"`
}
