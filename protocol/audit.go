package protocol

import (
	"encoding/json"
	"time"
)

// AuditResult is what became of a request.
type AuditResult string

// What becomes of a request.
const (
	AuditDone    AuditResult = "done"
	AuditRefused AuditResult = "refused" // or failed: the problem says why
	AuditUnknown AuditResult = "unknown" // the controller ended while it worked on it
)

// AuditEntry is one request to the controller that changes something, or was to.
type AuditEntry struct {
	ID       uint64          `json:"id"` // its place in the log; they grow, with gaps
	At       time.Time       `json:"at"`
	Operator string          `json:"operator"` // as its credentials say; for an enrolment empty
	Verb     string          `json:"verb"`
	Servers  []string        `json:"servers,omitempty"` // that it names or that its reply names, some hundreds at most
	Request  json.RawMessage `json:"request,omitempty"` // as it came; what is long or may be secret is replaced by its size and digest
	Reason   string          `json:"reason,omitempty"`
	Result   AuditResult     `json:"result"`
	Problem  *Problem        `json:"problem,omitempty"`
	Took     time.Duration   `json:"took_ns,omitempty"`
}

// AuditRequest asks for entries of the audit log, oldest first.
type AuditRequest struct {
	After  uint64    `json:"after,omitempty"` // entries with greater ids only
	Since  time.Time `json:"since,omitzero"`
	Server string    `json:"server,omitempty"` // entries that name it
}

// Reads implements [Reader].
func (AuditRequest) Reads() bool { return true }

// AuditReply is one page of the audit log.
type AuditReply struct {
	Entries []AuditEntry `json:"entries"`
	Next    uint64       `json:"next"` // what After is to be for the page that follows
	More    bool         `json:"more"` // there is one now
}
