package protocol

import "time"

// Problem is something that a person should know of: a stable code, what happened, and what to do.
type Problem struct {
	Code    ProblemCode `json:"code"`
	Message string      `json:"message"`
	Hint    string      `json:"hint,omitempty"`
	Server  string      `json:"server,omitempty"`
	Step    string      `json:"step,omitempty"`
	At      time.Time   `json:"at"`
}

// Error makes a problem usable as an error.
func (p *Problem) Error() string { return p.Message }

// ProblemCode is stable; docs/problems.md has an entry for each, and a test holds that.
type ProblemCode string

// Problem codes.
const (
	ProblemInternal           ProblemCode = "internal"
	ProblemInvalid            ProblemCode = "invalid-request"
	ProblemUnknown            ProblemCode = "unknown-name"
	ProblemConflict           ProblemCode = "conflict"
	ProblemNotAllowed         ProblemCode = "not-allowed"
	ProblemAgentUnreachable   ProblemCode = "agent-unreachable"
	ProblemAgentDisk          ProblemCode = "agent-disk"
	ProblemTracker            ProblemCode = "tracker"
	ProblemSourceRead         ProblemCode = "source-read"
	ProblemIntegrity          ProblemCode = "integrity"
	ProblemFreeze             ProblemCode = "freeze"
	ProblemFence              ProblemCode = "fence"
	ProblemPoint              ProblemCode = "point"
	ProblemReplicaUnreachable ProblemCode = "replicaserver-unreachable"
	ProblemVolume             ProblemCode = "volume"
	ProblemVolumeTooSmall     ProblemCode = "volume-too-small"
	ProblemStreamFull         ProblemCode = "stream-full"
	ProblemCloud              ProblemCode = "cloud"
	ProblemCredentials        ProblemCode = "credentials"
	ProblemConversion         ProblemCode = "conversion"
	ProblemLaunch             ProblemCode = "launch"
	ProblemAction             ProblemCode = "action"
	ProblemCheck              ProblemCode = "check"
	ProblemWebhook            ProblemCode = "webhook"
)

// ProblemCodes lists every code, for the test that compares them with the documentation.
var ProblemCodes = []ProblemCode{
	ProblemInternal, ProblemInvalid, ProblemUnknown, ProblemConflict, ProblemNotAllowed, ProblemAgentUnreachable, ProblemAgentDisk,
	ProblemTracker, ProblemSourceRead, ProblemIntegrity, ProblemFreeze, ProblemFence, ProblemPoint, ProblemReplicaUnreachable, ProblemVolume,
	ProblemVolumeTooSmall, ProblemStreamFull, ProblemCloud, ProblemCredentials, ProblemConversion, ProblemLaunch, ProblemAction, ProblemCheck, ProblemWebhook,
}
