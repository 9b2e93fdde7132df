package protocol

import "time"

// Roles on the bus.
const (
	RoleAgent         = "agent"
	RoleReplicaServer = "replicaserver"
	RoleController    = "controller"
	RoleOperator      = "operator"
)

// EnrolRequest changes a one-time token into an identity. The key is made where it is used; only its public half travels.
type EnrolRequest struct {
	Role      string `json:"role"`
	Name      string `json:"name"`
	Token     string `json:"token"`
	PublicKey string `json:"public_key"` // nkey of a user
	Hostname  string `json:"hostname"`
}

// EnrolReply carries the identity, or the problem.
type EnrolReply struct {
	JWT     string   `json:"jwt"`
	Problem *Problem `json:"problem,omitempty"`
}

// Enrolment is the record of a token that was given out. The token itself is not kept.
type Enrolment struct {
	Role    string    `json:"role"`
	Name    string    `json:"name"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used"`
	By      string    `json:"by"` // public key that used it
}
