package protocol

import (
	"strings"
	"time"
)

// Selection names servers in one of three ways: exactly one of its fields is set.
type Selection struct {
	Servers     []string `json:"servers,omitempty"`
	Application string   `json:"application,omitempty"`
	Wave        string   `json:"wave,omitempty"`
}

// String is the selection for people.
func (s Selection) String() string {
	switch {
	case s.Wave != "":
		return "wave " + s.Wave
	case s.Application != "":
		return "application " + s.Application
	}
	return strings.Join(s.Servers, ", ")
}

// Action is what operators have done to a server: by a job whose kind has the same name, or at once. The names are those of MGN's API, in its
// enumerations' spelling.
type Action string

// Actions that a job performs.
const (
	ActionTest      = Action(JobTest)
	ActionCutover   = Action(JobCutover)
	ActionFinalize  = Action(JobFinalize)
	ActionRevert    = Action(JobRevert)
	ActionTerminate = Action(JobTerminate)
)

// Actions that change a server's record at once; what follows from some of them takes its time, and is in the status.
const (
	ActionReady      Action = "MARK_READY_FOR_CUTOVER" // without a test of ours
	ActionPause      Action = "PAUSE_REPLICATION"      // nothing is sent, everything is tracked
	ActionResume     Action = "RESUME_REPLICATION"
	ActionStop       Action = "STOP_REPLICATION" // the replica and its points are removed, the agent stays
	ActionStart      Action = "START_REPLICATION"
	ActionRetry      Action = "RETRY_DATA_REPLICATION" // now, instead of after a pause
	ActionDisconnect Action = "DISCONNECT_FROM_SERVICE"
	ActionArchive    Action = "MARK_AS_ARCHIVED"
	ActionUnarchive  Action = "UNARCHIVE"
	ActionRevoke     Action = "REVOKE_IDENTITY"  // of the agent
	ActionConfirm    Action = "CONFIRM_RESTORED" // a record from a backup holds, whatever speaks against it
)

// Actions lists all of them, in the order of a server's way.
var Actions = []Action{
	ActionStart, ActionRetry, ActionPause, ActionResume, ActionStop, ActionTest, ActionReady, ActionCutover, ActionRevert, ActionFinalize, ActionTerminate,
	ActionDisconnect, ActionArchive, ActionUnarchive, ActionRevoke, ActionConfirm,
}

// ChangeRequest does to servers what takes no job.
type ChangeRequest struct {
	Selection
	Action Action `json:"action"`
	Reason string `json:"reason,omitempty"`
}

// Changed is what became of a [ChangeRequest] for one server.
type Changed struct {
	Server  string   `json:"server"`
	Record  Server   `json:"record"`            // as it is now
	Problem *Problem `json:"problem,omitempty"` // why nothing was changed
}

// Remark is what an operator last did to a server at once, and why.
type Remark struct {
	Action Action    `json:"action"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}
