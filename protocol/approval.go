package protocol

import "time"

// Operator is the record of a person who may approve. People without roles have none.
type Operator struct {
	Name  string    `json:"name"`
	Roles []string  `json:"roles"` // sorted
	By    string    `json:"by"`    // who gave them, on the controller's machine
	At    time.Time `json:"at"`
}

// GrantRequest sets the roles of an operator; none takes them all away. It is no [Verb]: operators cannot ask for it.
type GrantRequest struct {
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// Approval is the record of one person's yes to a wave, in one role.
type Approval struct {
	Wave     string    `json:"wave"`
	Role     string    `json:"role"`
	Operator string    `json:"operator"`
	At       time.Time `json:"at"`
	Reason   string    `json:"reason"`
	// Of is what was approved: the digest of each block that the wave's cutover is made of, by kind and name, such as "server web-1".
	Of        map[string]string `json:"of"`
	Withdrawn time.Time         `json:"withdrawn,omitzero"`
	Why       string            `json:"why,omitempty"`  // it was withdrawn
	Void      string            `json:"void,omitempty"` // why it does not count now; never recorded
}

// ApproveRequest approves a wave as it is configured now, or withdraws that. The reason travels as that of any request, and there must be one.
type ApproveRequest struct {
	Wave     string `json:"wave"`
	Role     string `json:"role"`
	Withdraw bool   `json:"withdraw,omitempty"`
}

// ApprovalsRequest asks for the approvals of a wave.
type ApprovalsRequest struct {
	Wave string `json:"wave"`
}

// Reads implements [Reader].
func (ApprovalsRequest) Reads() bool { return true }

// Approvals are all approvals of a wave, oldest first, and the gates that ask for them, as they are for who asks.
type Approvals struct {
	Wave      string     `json:"wave"`
	Gates     []Gate     `json:"gates"`
	Approvals []Approval `json:"approvals"`
}
