package protocol

import "time"

// GateSettings is a wave's gates block: what must hold before its cutover begins. What is zero is not asked for.
type GateSettings struct {
	Lag      time.Duration    `json:"lag_ns,omitempty"`      // of each server, at most
	Verified time.Duration    `json:"verified_ns,omitempty"` // age of each server's newest whole comparison with its replica, at most
	Tested   time.Duration    `json:"tested_ns,omitempty"`   // age of each server's newest test that passed, at most
	Clean    bool             `json:"clean,omitempty"`       // preflight has not even warnings
	Windows  []WindowSettings `json:"windows,omitempty"`     // the cutover fits into one of them, as predicted
}

// WindowSettings is a time for cutovers: from a time of the day to a later one, or to one of the next day.
type WindowSettings struct {
	On     string         `json:"on,omitempty"`     // the date on which it begins; empty: it comes again
	Days   []time.Weekday `json:"days,omitempty"`   // on which it begins; empty: each
	From   time.Duration  `json:"from_ns"`          // since midnight
	To     time.Duration  `json:"to_ns"`            // not after From: of the next day
	Zone   string         `json:"zone"`             // IANA name
	Except []string       `json:"except,omitempty"` // blackout days, as dates, on which nothing is cut over
}

// Gate is what must hold before a cutover, and whether it does.
type Gate struct {
	Name string `json:"name"` // lag, verified, tested, preflight, window
	Want string `json:"want"` // for people
	Open bool   `json:"open"`
	Why  string `json:"why,omitempty"` // it is closed
	Hint string `json:"hint,omitempty"`
	// Opens is when a window opens that the cutover fits into.
	Opens time.Time `json:"opens,omitzero"`
}

// RunbookRequest asks how the cutover of a wave would go.
type RunbookRequest struct {
	Wave string `json:"wave"`
}

// Reads says that nothing is changed.
func (RunbookRequest) Reads() bool { return true }

// Runbook is the cutover of a wave as a plan: what comes after what, by whom, and when, as predicted. It is a value;
// to ask for it changes nothing.
type Runbook struct {
	Wave        string        `json:"wave"`
	At          time.Time     `json:"at"`    // when it was made
	Start       time.Time     `json:"start"` // the earliest one, from which on all times are counted
	End         time.Time     `json:"end"`
	Concurrency int           `json:"concurrency"` // servers at once
	Gates       []Gate        `json:"gates"`
	Steps       []RunbookStep `json:"steps"`
	Downtimes   []Downtime    `json:"downtimes"` // of servers, applications and the wave
	Notes       []string      `json:"notes,omitempty"`
}

// RunbookStep is one row of a runbook.
type RunbookStep struct {
	Number  int       `json:"number"` // from 1
	What    string    `json:"what"`
	Server  string    `json:"server,omitempty"`
	After   []int     `json:"after,omitempty"` // numbers of the steps that must be done
	Who     string    `json:"who"`
	Begin   time.Time `json:"begin"` // predicted
	End     time.Time `json:"end"`
	Success string    `json:"success"`
	Back    string    `json:"back"`
}

// Downtime is how long something is predicted to be down, from the fence to the end of the checks.
type Downtime struct {
	Of    string        `json:"of"` // "server NAME", "application NAME" or "wave NAME"
	Time  time.Duration `json:"time_ns"`
	Basis string        `json:"basis,omitempty"` // of a server: what the prediction rests on, for people
}
