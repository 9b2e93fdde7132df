package protocol

import (
	"strings"
	"time"
)

// Server is the record of one source server.
type Server struct {
	Name       string          `json:"name"`
	Lifecycle  Lifecycle       `json:"lifecycle"`
	Since      time.Time       `json:"since"` // of the lifecycle state
	Generation string          `json:"generation"`
	Stream     string          `json:"stream"`
	Replica    string          `json:"replica"`             // replication server
	Replacing  string          `json:"replacing,omitempty"` // why it gets another replication server now
	Move       *Move           `json:"move,omitempty"`      // on the way to another replication server, as ordered
	Volumes    []StagingVolume `json:"volumes"`
	Zone       string          `json:"zone,omitempty"` // availability zone of the volumes
	Initiation []Initiation    `json:"initiation"`
	FirstByte  time.Time       `json:"first_byte"`
	Continuous time.Time       `json:"continuous"`           // when the initial sync was first complete
	Wanted     Wanted          `json:"wanted"`               // what the agent is ordered to do
	Fence      bool            `json:"fence"`                // wanted
	FenceID    string          `json:"fence_id,omitempty"`   // the job that wants it
	FenceKeep  bool            `json:"fence_keep,omitempty"` // and that it does not end by itself any more
	PointOrder *PointOrder     `json:"point_order,omitempty"`
	Verify     *VerifyOrder    `json:"verify_order,omitempty"` // the newest comparison that was ordered
	Survey     string          `json:"survey,omitempty"`       // id of the newest survey that an operator asked for
	Job        string          `json:"job,omitempty"`          // that works on the server now; one at a time
	JobKind    JobKind         `json:"job_kind,omitempty"`
	Tested     time.Time       `json:"tested"` // when a test last passed its checks
	Boots      *BootCheck      `json:"boots,omitempty"`
	Test       *Launched       `json:"test,omitempty"`
	Cutover    *Launched       `json:"cutover,omitempty"`
	Finalized  time.Time       `json:"finalized"`
	Stopped    time.Time       `json:"stopped,omitzero"`      // since when an operator wants it not to replicate
	Disconnect time.Time       `json:"disconnected,omitzero"` // when an operator disconnected it
	Archived   time.Time       `json:"archived,omitzero"`     // since when status leaves it out
	Revoked    time.Time       `json:"revoked,omitzero"`      // identities that its agent got before are not let in
	Restored   time.Time       `json:"restored,omitzero"`     // the time of the backup that it comes from, until its agent shows that it still holds
	Remark     *Remark         `json:"remark,omitempty"`
	// Replication is the state that lasted; the status tells the present one.
	Replication Replication  `json:"replication,omitempty"`
	Transitions []Transition `json:"transitions,omitempty"` // the newest ones; the store writes them
	Problem     *Problem     `json:"problem,omitempty"`
}

// Move is a server's way from one replication server to another one, as an operator ordered it.
type Move struct {
	From      string    `json:"from"`
	To        string    `json:"to,omitempty"`     // wanted: a name, [MoveDedicated], or empty for any other one
	Target    string    `json:"target,omitempty"` // the one that has room reserved for it
	Ordered   time.Time `json:"ordered"`
	Releasing time.Time `json:"releasing,omitzero"` // since when From is ordered to give the replica up
	Released  time.Time `json:"released,omitzero"`  // since when From has given it up and no volume is attached to it; from now on Target has it
	Detail    string    `json:"detail,omitempty"`   // what is waited for, for people
}

// MoveDedicated stands for a new replication server of the server's own.
const MoveDedicated = "dedicated"

// StagingVolume is the volume behind one disk of a server.
type StagingVolume struct {
	Disk      string `json:"disk"`
	Volume    string `json:"volume"`
	SizeBytes int64  `json:"size_bytes"`
	Boot      bool   `json:"boot"`
	Type      string `json:"type,omitempty"` // chosen before it is created, and later what the cloud says
}

// Initiation is the state of one initiation step.
type Initiation struct {
	Step   InitiationStep `json:"step"`
	Status StepStatus     `json:"status"`
	Detail string         `json:"detail,omitempty"`
	At     time.Time      `json:"at"`
}

// Answered says that the copy was converted and booted, or that it cannot be; otherwise something else failed on the way.
func (b BootCheck) Answered() bool {
	return b.Problem == nil || b.Step == JobStepConvert || b.Step == JobStepBoot
}

// BootCheck is the newest answer to whether a copy of a server boots.
type BootCheck struct {
	At      time.Time `json:"at"`
	Job     string    `json:"job"`
	Point   string    `json:"point,omitempty"`
	Taken   time.Time `json:"taken,omitzero"`    // the point
	Passed  time.Time `json:"passed,omitzero"`   // when one last did; it is At when this one does
	Problem *Problem  `json:"problem,omitempty"` // why this one does not, or nobody could find out
	Step    string    `json:"step,omitempty"`    // of the job, that failed
}

// Launched is what a test or a cutover left running.
type Launched struct {
	Job      string    `json:"job"`
	Point    string    `json:"point"`
	Image    string    `json:"image"`
	Instance string    `json:"instance"`
	Address  string    `json:"address"`
	At       time.Time `json:"at"`
	Taken    time.Time `json:"taken"` // the point
}

// Point is the record of one consistency point. It is offered only when Snapshots is
// complete: then the snapshots hold what the source held.
type Point struct {
	ID        string        `json:"id"`
	Server    string        `json:"server"`
	Grade     Grade         `json:"grade"`
	Taken     time.Time     `json:"taken"`
	Frozen    time.Duration `json:"frozen_ns"`
	Fenced    bool          `json:"fenced"`
	Snapshots []string      `json:"snapshots"` // in disk order; empty until they are complete
	State     PointStage    `json:"state"`
	Ordered   time.Time     `json:"ordered"`
	Held      time.Time     `json:"held,omitzero"`     // since when the replica stands still at it
	Over      time.Time     `json:"over,omitzero"`     // when it failed or was removed
	Cleared   bool          `json:"cleared,omitempty"` // it is over, and no snapshot of it is left
	Job       string        `json:"job,omitempty"`     // that wanted it
	Problem   *Problem      `json:"problem,omitempty"`
	Origin    PointOrigin   `json:"origin,omitempty"`   // who wanted it
	Attempt   int           `json:"attempt,omitempty"`  // from 1; 0 counts as 1
	Attempts  int           `json:"attempts,omitempty"` // that are made at most, as long as each fails for a reason that may pass
	First     string        `json:"first,omitempty"`    // id of the first attempt, when this is another one
	Passing   bool          `json:"passing,omitempty"`  // it failed for a reason that may pass
	Group     string        `json:"group,omitempty"`    // application whose servers take it together
	Members   []string      `json:"members,omitempty"`  // these servers; each has a record with the same id
	Pinned    bool          `json:"pinned,omitempty"`   // it stays until it is unpinned, or its server is finalized or removed
}

// PointOrigin says who wanted a point.
type PointOrigin string

// Origins of points.
const (
	OriginJob      PointOrigin = "job"
	OriginSchedule PointOrigin = "schedule"
	OriginRequest  PointOrigin = "request"
)

// PointStage is how far a point's record is.
type PointStage string

// Stages of a point. The replica stands still from the point's frame until the stage is past PointHeld:
// what a snapshot holds is fixed when it is created, though it may take long to complete.
const (
	PointOrdered      PointStage = "ordered"
	PointHeld         PointStage = "held"
	PointSnapshotting PointStage = "snapshotting"
	PointComplete     PointStage = "complete"
	PointLost         PointStage = "failed"
	PointRemoved      PointStage = "removed" // its snapshots were deleted
)

// ReplicaServer is the record of one replication server.
type ReplicaServer struct {
	Name        string    `json:"name"`
	Replication string    `json:"replication"` // settings block
	Instance    string    `json:"instance"`
	Zone        string    `json:"zone"` // availability zone, of its volumes too
	Servers     []string  `json:"servers"`
	Dedicated   bool      `json:"dedicated,omitempty"` // it carries one server only
	Retired     bool      `json:"retired,omitempty"`   // it has no servers and gets none: its instance is being terminated
	LastSeen    time.Time `json:"last_seen"`
	Lost        time.Time `json:"lost,omitzero"`    // when it was given up for dead; it never comes back
	Reason      string    `json:"reason,omitempty"` // why, for people
	Fenced      time.Time `json:"fenced,omitzero"`  // since when its instance is terminated and no volume is attached to it
}

// Job is a piece of work over one or more servers. It is persisted before and after each step.
type Job struct {
	ID      string      `json:"id"`
	Kind    JobKind     `json:"kind"`
	Of      Selection   `json:"of"`
	Status  JobStatus   `json:"status"`
	Created time.Time   `json:"created"`
	Ended   time.Time   `json:"ended"`
	Servers []JobServer `json:"servers"`
	Log     []JobEvent  `json:"log"`
	Force   string      `json:"force,omitempty"`
	// Concurrency is how many of its servers are worked on at once.
	Concurrency int `json:"concurrency"`
	// StopOnFailure says that no further server is begun when one has failed.
	StopOnFailure bool          `json:"stop_on_failure,omitempty"`
	KeepClones    bool          `json:"keep_clones,omitempty"` // of conversions that fail
	Cancel        *Cancellation `json:"cancel,omitempty"`
	// Confirmed says that the operator stopped the writers of the sources whose fence is "confirmed".
	Confirmed bool `json:"confirmed,omitempty"`
	// Deadline is when each application of a cutover must be committed, or its sources writable again; zero: never.
	Deadline time.Time `json:"deadline,omitzero"`
	// By and Reason are who started it, as the bus knows the operator, and why.
	By            string            `json:"by,omitempty"`
	Reason        string            `json:"reason,omitempty"`
	Configuration *JobConfiguration `json:"configuration,omitempty"` // that was applied then
	Runbook       *Runbook          `json:"runbook,omitempty"`       // of the cutover of a wave, as it was predicted then
	// Applications are what a cutover commits or rolls back as one, and what passes or fails as one in a rehearsal: each server is in one of them.
	Applications []JobApplication `json:"applications,omitempty"`
	// Rehearsal says that a test of a wave is done as its cutover would be.
	Rehearsal *Rehearsal `json:"rehearsal,omitempty"`
	// Ready says that the controller itself wants to know whether a copy of the server boots. Nothing of it stays, the server is held by no such job,
	// and any other one ends it.
	Ready bool `json:"ready,omitempty"`
}

// Rehearsal is what a job has that does a wave's cutover as a test: by application and in their order, without fences.
type Rehearsal struct {
	Keep bool `json:"keep,omitempty"` // the instances of those that pass
	// Of are digests of the blocks that it was of, by kind and name; the wave's own is left out, which has the gates.
	Of map[string]string `json:"of,omitempty"`
	// Cutover is how the cutover would go from now on, as predicted when the rehearsal ended; of its gates it has the window only.
	Cutover *Runbook `json:"cutover,omitempty"`
}

// JobApplication is the servers of an application in a cutover or a rehearsal. A server that is in none is one by itself, without a name.
type JobApplication struct {
	Name    string   `json:"name,omitempty"`
	Servers []string `json:"servers"`
	Point   string   `json:"point,omitempty"` // id of the point that they take together
	// Outcome is decided once, for all of its servers; empty: not yet.
	Outcome Outcome   `json:"outcome,omitempty"`
	Decided time.Time `json:"decided,omitzero"`
	Why     string    `json:"why,omitempty"` // it is not committed, for people
}

// Outcome is what a cutover or a rehearsal decides of an application.
type Outcome string

// Outcomes.
const (
	OutcomeCommitted  Outcome = "COMMITTED"   // the targets take over; what comes after the application may begin
	OutcomeRolledBack Outcome = "ROLLED_BACK" // the sources go on, and the targets are terminated
	OutcomeLeftOut    Outcome = "LEFT_OUT"    // nothing of it was begun
	OutcomePassed     Outcome = "PASSED"      // of a rehearsal: all of its servers were launched and checked
	OutcomeFailed     Outcome = "FAILED"      // of a rehearsal: one of its servers was not
)

// String names the application for people.
func (a JobApplication) String() string {
	if a.Name != "" {
		return "application " + a.Name
	}
	return "server " + strings.Join(a.Servers, ", ")
}

// Cancellation is an operator's wish that a job ends.
type Cancellation struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// JobServer is the way of one server through a job.
type JobServer struct {
	Server   string            `json:"server"`
	Status   StepStatus        `json:"status"`
	Steps    []JobStep         `json:"steps"`
	Data     map[string]string `json:"data,omitempty"` // what steps hand on: point, snapshot, clone, image, instance, address
	Changes  []Change          `json:"changes,omitempty"`
	Scripts  []ScriptRun       `json:"scripts,omitempty"`  // that ran in the conversion
	Actions  []ActionRun       `json:"actions,omitempty"`  // that were begun on the target
	Verified time.Time         `json:"verified,omitzero"`  // end of the newest whole comparison without differences, when the job was started
	Findings []Finding         `json:"findings,omitempty"` // of the conversion
	Guest    *Guest            `json:"guest,omitempty"`
	Problem  *Problem          `json:"problem,omitempty"`
}

// JobStep is one step of one server.
type JobStep struct {
	Name     string     `json:"name"`
	Status   StepStatus `json:"status"`
	Attempts int        `json:"attempts"`
	Started  time.Time  `json:"started"`
	Ended    time.Time  `json:"ended"`
	Detail   string     `json:"detail,omitempty"` // progress for people
	Problem  *Problem   `json:"problem,omitempty"`
}

// JobEvent is one entry of a job's log.
type JobEvent struct {
	At     time.Time    `json:"at"`
	Event  JobEventName `json:"event"`
	Server string       `json:"server,omitempty"`
	// Application is what is committed or rolled back, by [JobApplication.String].
	Application string `json:"application,omitempty"`
	Attempt     int    `json:"attempt,omitempty"`
	// MaxAttempts are made of the step, as long as another one may help.
	MaxAttempts int           `json:"max_attempts,omitempty"`
	Took        time.Duration `json:"took_ns,omitempty"`  // from the step's first begin to its end
	Instance    string        `json:"instance,omitempty"` // the conversion's or the target
	Detail      string        `json:"detail,omitempty"`
	Error       string        `json:"error,omitempty"` // as the cloud or the agent said it
}

// Status is what an operator sees: records and the latest reports, with ages.
type Status struct {
	At      time.Time      `json:"at"`
	Servers []ServerStatus `json:"servers"`
	Waves   []WaveStatus   `json:"waves"`
	// Applications are the names of the applied ones.
	Applications []string        `json:"applications"`
	Replicas     []ReplicaServer `json:"replication_servers"`
	Jobs         []Job           `json:"jobs"` // running, and the newest ended one
	Webhooks     []Webhook       `json:"webhooks,omitempty"`
	Problems     []Problem       `json:"problems,omitempty"`
}

// ServerStatus joins a server's record with what was last heard of it.
type ServerStatus struct {
	Record      Server         `json:"record"`
	Replication Replication    `json:"replication"` // as concluded by the controller
	Agent       *AgentReport   `json:"agent,omitempty"`
	LastSeen    time.Time      `json:"last_seen"`
	Replica     *ReplicaStatus `json:"replica,omitempty"`
	LastPoint   *Point         `json:"last_point,omitempty"` // the newest complete one
	Waiting     string         `json:"waiting"`              // what the server is waiting for, for people
	Advice      []string       `json:"advice,omitempty"`     // what would be better, and nobody does by itself
	Findings    FindingCount   `json:"findings"`             // of preflight
	Next        string         `json:"next"`                 // what the operator can do now
}

// WaveStatus counts the servers of a wave by lifecycle state.
type WaveStatus struct {
	Name    string            `json:"name"`
	Servers []string          `json:"servers"`
	Counts  map[Lifecycle]int `json:"counts"`
}
