package protocol

import "time"

// LeaseKey is the key of the one record in the lease's bucket.
const LeaseKey = "leader"

// Lease says which of several controllers leads. It is changed by compare-and-swap only.
type Lease struct {
	Term    uint64    `json:"term"`    // one more each time that a controller begins to lead
	Holder  string    `json:"holder"`  // the controller's name
	Host    string    `json:"host"`    // where it runs
	Process string    `json:"process"` // random, of the process
	Fleet   string    `json:"fleet"`   // whose keys it has; empty: it has none
	Since   time.Time `json:"since"`   // when the term began, by the holder's clock
	Renewed time.Time `json:"renewed"` // by the holder's clock: for people, nothing is decided by it
	Free    bool      `json:"free,omitempty"`
}
