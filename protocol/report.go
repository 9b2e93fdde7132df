package protocol

import "time"

// ReportRequest asks how a job of a wave goes or went.
type ReportRequest struct {
	Wave string `json:"wave"`
	Job  string `json:"job,omitempty"` // empty: its newest cutover or rehearsal, or its newest test when there was none
}

// Reads implements [Reader].
func (ReportRequest) Reads() bool { return true }

// Report is what is recorded of a wave's job: what was planned and predicted, and what came of it. What a job does not record is absent, and
// told in Absent.
type Report struct {
	At        time.Time `json:"at"` // when it was made
	Wave      string    `json:"wave"`
	Job       string    `json:"job"`
	Kind      JobKind   `json:"kind"`
	Status    JobStatus `json:"status"`
	Created   time.Time `json:"created"` // from which the times of what happened are counted
	Ended     time.Time `json:"ended,omitzero"`
	By        string    `json:"by,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	Force     string    `json:"force,omitempty"`
	Confirmed bool      `json:"confirmed,omitempty"`
	Cancelled string    `json:"cancelled,omitempty"` // why
	// Configuration is the one that was applied when the job was started.
	Configuration *JobConfiguration `json:"configuration,omitempty"`
	Runbook       *Runbook          `json:"runbook,omitempty"` // as it was when the job was started, with its gates
	Steps         []ReportStep      `json:"steps"`
	Downtimes     []ReportDowntime  `json:"downtimes"`
	Applications  []JobApplication  `json:"applications,omitempty"` // what was committed or rolled back as one
	Rehearsal     *Rehearsal        `json:"rehearsal,omitempty"`
	Gates         []Gate            `json:"gates,omitempty"` // of the cutover that is still to begin, as they are now
	Servers       []ReportServer    `json:"servers"`
	Absent        []string          `json:"absent,omitempty"`
}

// ReportStep is a row of a runbook, and what happened.
type ReportStep struct {
	Number int       `json:"number"` // from 1
	What   string    `json:"what"`
	Server string    `json:"server,omitempty"`
	Begin  time.Time `json:"begin,omitzero"` // predicted
	End    time.Time `json:"end,omitzero"`   // predicted
	Began  time.Time `json:"began,omitzero"`
	Ended  time.Time `json:"ended,omitzero"`
	// Status is that of the server in the job; empty for what a person does after it.
	Status StepStatus `json:"status,omitempty"`
	Now    string     `json:"now,omitempty"` // the step of the job that runs, or why it ended otherwise
}

// ReportDowntime is how long something was predicted to be down and was, from the fence to the end of the checks, or until the source went on.
type ReportDowntime struct {
	Of        string        `json:"of"` // "server NAME", "application NAME" or "wave NAME"
	Predicted time.Duration `json:"predicted_ns,omitempty"`
	Basis     string        `json:"basis,omitempty"`
	// Actual is how long it was down, or is down now while Open; absent when nothing of it was fenced.
	Actual time.Duration `json:"actual_ns,omitempty"`
	Open   bool          `json:"open,omitempty"`
	// Error is how much longer it was than predicted, in hundredths of the prediction; absent while it is open, or without one of both.
	Error *float64 `json:"error_percent,omitempty"`
}

// ReportServer is what came of one server.
type ReportServer struct {
	JobServer
	Application string        `json:"application,omitempty"`
	Outcome     Outcome       `json:"outcome,omitempty"` // of its application, or of itself
	Point       *Point        `json:"point,omitempty"`   // what was launched from, when its record is there
	Took        time.Duration `json:"took_ns,omitempty"`
}

// JobConfiguration names a configuration.
type JobConfiguration struct {
	Revision uint64 `json:"revision"` // of its record
	Hash     string `json:"hash"`     // SHA-256 of its JSON
}
