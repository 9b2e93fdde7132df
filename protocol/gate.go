package protocol

import "time"

// GateSettings is a wave's gates block: what must hold before its cutover begins. What is zero is not asked for.
type GateSettings struct {
	Lag      time.Duration    `json:"lag_ns,omitempty"`      // of each server, at most
	Verified time.Duration    `json:"verified_ns,omitempty"` // age of each server's newest whole comparison with its replica, at most
	Tested   time.Duration    `json:"tested_ns,omitempty"`   // age of each server's newest test that passed, at most
	Clean    bool             `json:"clean,omitempty"`       // preflight has not even warnings
	Windows  []WindowSettings `json:"windows,omitempty"`     // the cutover fits into one of them, as predicted

	Rehearsed time.Duration `json:"rehearsed_ns,omitempty"` // age of the wave's newest rehearsal, which passed as it is configured now, at most
	Quota     bool          `json:"quota,omitempty"`        // the account's quotas have room for all that the wave's servers still need

	Approvals []ApprovalSettings    `json:"approvals,omitempty"`
	Commands  []CommandGateSettings `json:"commands,omitempty"`
	Pages     []PageGateSettings    `json:"pages,omitempty"`
}

// ApprovalSettings is an approval block: people with a role say yes to the wave as it is.
type ApprovalSettings struct {
	Role     string        `json:"role"`
	Count    int           `json:"count"`               // different people; at least 1
	FourEyes bool          `json:"four_eyes,omitempty"` // who starts the cutover does not count, and nobody counts for two roles
	Valid    time.Duration `json:"valid_ns,omitempty"`  // age of an approval, at most; 0: until the wave is changed
}

// CommandGateSettings is a command block: a program on the controller's machine ends with 0.
type CommandGateSettings struct {
	Name    string        `json:"name"`
	Argv    []string      `json:"argv"` // the first one is a file's name in the controller's gate_commands folder
	Timeout time.Duration `json:"timeout_ns"`
}

// PageGateSettings is an http block: a page answers a GET as it should.
type PageGateSettings struct {
	Name     string        `json:"name"`
	URL      string        `json:"url"`
	Status   int           `json:"status"`
	Contains string        `json:"contains,omitempty"` // in the first MiB of the answer
	Timeout  time.Duration `json:"timeout_ns"`
}

// MaxGateTimeout bounds how long a gate may take to answer: a person waits for it.
const MaxGateTimeout = 20 * time.Second

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
	Name string `json:"name"` // lag, verified, tested, preflight, rehearsed, quota, window, "approval ROLE", "command NAME", "http NAME"
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
