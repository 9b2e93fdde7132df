package protocol

import "time"

// Webhook is the record of one webhook: how far it is with the stream of events, and how it goes.
type Webhook struct {
	Name  string    `json:"name"`
	Since time.Time `json:"since"` // what happened before is not delivered
	// Next is the place in the stream up to which, without it, events were read. Held are the places before it of those that are not
	// delivered.
	Next      uint64       `json:"next"`
	Held      []uint64     `json:"held,omitempty"`
	Delivered uint64       `json:"delivered"` // events
	Last      time.Time    `json:"last,omitzero"`
	Failing   time.Time    `json:"failing,omitzero"` // since when no attempt has succeeded
	Error     string       `json:"error,omitempty"`  // of the newest attempt, when it failed
	Dead      uint64       `json:"dead,omitempty"`   // events that were given up
	Letters   []DeadLetter `json:"letters,omitempty"`
}

// DeadLetter is an event that was given up. It stays in the stream as long as others.
type DeadLetter struct {
	ID       string    `json:"id"` // of the event
	Type     string    `json:"type"`
	Server   string    `json:"server,omitempty"`
	At       time.Time `json:"at"` // when it was given up
	Attempts int       `json:"attempts"`
	Error    string    `json:"error"`
}
