package protocol

import (
	"encoding/json"
	"time"
)

// Verb is an operation that an operator may ask of the controller.
type Verb string

// Verbs, with request and reply. Every reply may be a [Problem] instead: the NATS micro error
// headers carry its code, the body its JSON.
const (
	VerbPlan       Verb = "plan"       // PlanRequest -> Plan
	VerbApply      Verb = "apply"      // ApplyRequest -> Plan (what was done)
	VerbStatus     Verb = "status"     // StatusRequest -> Status
	VerbStart      Verb = "start"      // StartRequest -> Job
	VerbChange     Verb = "change"     // ChangeRequest -> []Changed
	VerbJob        Verb = "job"        // JobRequest -> Job
	VerbJobs       Verb = "jobs"       // JobsRequest -> []Job, newest first, without their logs
	VerbCancel     Verb = "cancel"     // CancelRequest -> Job
	VerbPoints     Verb = "points"     // PointsRequest -> []Point
	VerbPoint      Verb = "point"      // PointRequest -> []Point, as ordered
	VerbPin        Verb = "pin"        // PinRequest -> []Point, as they are now
	VerbRemove     Verb = "remove"     // RemoveRequest -> []Point, as they are now
	VerbSweep      Verb = "sweep"      // SweepRequest -> []Leftover
	VerbMove       Verb = "move"       // MoveRequest -> Move, as ordered
	VerbVerify     Verb = "verify"     // VerifyRequest -> VerifyReport
	VerbToken      Verb = "token"      // TokenRequest -> TokenReply
	VerbPreflight  Verb = "preflight"  // PreflightRequest -> []Preflight
	VerbRunbook    Verb = "runbook"    // RunbookRequest -> Runbook
	VerbReport     Verb = "report"     // ReportRequest -> Report
	VerbApprove    Verb = "approve"    // ApproveRequest -> Approval
	VerbApprovals  Verb = "approvals"  // ApprovalsRequest -> Approvals
	VerbVersion    Verb = "version"    // VersionRequest -> VersionReply
	VerbScreenshot Verb = "screenshot" // ScreenshotRequest -> Screenshot
	VerbAudit      Verb = "audit"      // AuditRequest -> AuditReply
	VerbEvents     Verb = "events"     // EventsRequest -> EventsReply
	VerbBackup     Verb = "backup"     // BackupRequest -> BackupPiece
)

// Reader is a request that may change nothing. One that does not say so of itself changes something, and is kept in the audit log.
type Reader interface{ Reads() bool }

// Fleet is the desired configuration, as read from HCL: everything in it has its defaults filled in.
type Fleet struct {
	Replications []ReplicationSettings `json:"replications"`
	Launches     []LaunchSettings      `json:"launches"`
	Servers      []ServerSettings      `json:"servers"`
	Applications []ApplicationSettings `json:"applications"`
	Waves        []WaveSettings        `json:"waves"`
	Checks       []CheckSettings       `json:"checks"`
	Actions      []ActionSettings      `json:"actions,omitempty"`
}

// ReplicationSettings is a replication block: how servers are staged.
type ReplicationSettings struct {
	Name             string            `json:"name"`
	InstanceType     string            `json:"instance_type"`
	Image            string            `json:"image"` // name or id of the replication server's image
	Subnet           string            `json:"subnet"`
	VolumeType       string            `json:"volume_type"`
	VolumesPerServer int               `json:"volumes_per_server"`
	Dedicated        bool              `json:"dedicated,omitempty"` // each server has a replication server of its own
	ReplaceAfter     time.Duration     `json:"replace_after_ns"`    // a replication server's silence after which another one takes over; 0: never for silence alone
	Window           int64             `json:"window_bytes"`
	StreamBytes      int64             `json:"stream_bytes"`
	FreezeBudget     time.Duration     `json:"freeze_budget_ns"`
	Tags             map[string]string `json:"tags,omitempty"`
	PointsEvery      time.Duration     `json:"points_every_ns"`       // age of the newest point at which another is taken; 0: only on request
	PointsKeep       int               `json:"points_keep"`           // newest complete scheduled points of a server, however old
	PointsRetain     []RetentionTier   `json:"points_retain"`         // which older ones stay
	FreezeAttempts   int               `json:"freeze_attempts"`       // of a point that fails for a reason that may pass
	Concurrency      int               `json:"concurrency,omitempty"` // servers of it that jobs work on at once; 0: no limit of its own
	Bandwidth        BandwidthSettings `json:"bandwidth"`
	Volumes          VolumeSettings    `json:"volumes,omitzero"`
}

// RetentionTier keeps one point of each period of a length Every, for a time For after the period's end.
type RetentionTier struct {
	Every time.Duration `json:"every_ns"`
	For   time.Duration `json:"for_ns"`
}

// BandwidthSettings bounds what the agents of a replication block send, in bytes of frames per second; 0: unlimited.
type BandwidthSettings struct {
	Server  int64             `json:"server_bytes"`      // of one server
	Site    int64             `json:"site_bytes"`        // of all servers of the block together
	Windows []BandwidthWindow `json:"windows,omitempty"` // the first one that it is now counts instead
}

// BandwidthWindow is a time of the week with a bandwidth of its own.
type BandwidthWindow struct {
	Days   []time.Weekday `json:"days,omitempty"` // on which it begins; empty: every day
	From   time.Duration  `json:"from_ns"`        // wall-clock time since midnight
	To     time.Duration  `json:"to_ns"`          // before From: on the next day
	Zone   string         `json:"zone"`           // IANA name
	Server int64          `json:"server_bytes"`
	Site   int64          `json:"site_bytes"`
}

// LaunchSettings is a launch block: how a server becomes an instance.
type LaunchSettings struct {
	Name            string `json:"name"`
	InstanceType    string `json:"instance_type"`
	ConversionImage string `json:"conversion_image"` // name or id
	ConversionType  string `json:"conversion_instance_type"`
	Subnet          string `json:"subnet"`
	TestSubnet      string `json:"test_subnet"`
	IngressPorts    []int  `json:"ingress_ports"` // TCP ports that the target's security group opens
	BootMode        string `json:"boot_mode"`     // source, bios, uefi
	Network         string `json:"network"`       // dhcp or keep
	// PassphraseFile is a file of the controller's machine with the passphrase of the guest's LUKS devices.
	PassphraseFile string            `json:"luks_passphrase_file,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`

	SecurityGroups     []string     `json:"security_groups,omitempty"`      // ids; ours is added when there are ingress ports, or no ids
	TestSecurityGroups []string     `json:"test_security_groups,omitempty"` // the same for tests; empty: as for cutovers
	PrivateIP          string       `json:"private_ip"`                     // auto, or copy: the source's
	Profile            string       `json:"instance_profile,omitempty"`
	Tenancy            string       `json:"tenancy,omitempty"`     // default, dedicated, host
	HTTPTokens         string       `json:"http_tokens,omitempty"` // of the metadata service: required, optional
	HopLimit           int          `json:"http_hop_limit,omitempty"`
	UserData           string       `json:"user_data,omitempty"`
	Disposition        string       `json:"disposition"` // started or stopped
	VolumeType         string       `json:"volume_type"`
	Disks              []LaunchDisk `json:"disks,omitempty"` // those that are to have another volume

	Interfaces []LaunchInterface `json:"network_interfaces,omitempty"` // those beside the first one, in their order
	Scripts    []Script          `json:"scripts,omitempty"`            // those of a phase run in this order

	SSH *SSHSettings `json:"ssh,omitempty"` // how checks reach what is launched

	TestIdentity Identity `json:"test_identity,omitempty"` // of tests; a cutover keeps the source's

	// Ready is how often it is found out whether a fresh copy boots; 0: never.
	Ready time.Duration `json:"ready_every_ns,omitempty"`
}

// InstanceTypeAuto stands for the cheapest type that has the source's cores and memory.
const InstanceTypeAuto = "auto"

// VolumeTypeAuto stands for the type of staging volume that fits a disk's size and how much is written to it.
const VolumeTypeAuto = "auto"

// LaunchInterface is a network interface beside the first one.
type LaunchInterface struct {
	Subnet             string   `json:"subnet,omitempty"`               // empty: the first one's
	TestSubnet         string   `json:"test_subnet,omitempty"`          // for tests; empty: Subnet
	SecurityGroups     []string `json:"security_groups,omitempty"`      // ids; empty: the first one's
	TestSecurityGroups []string `json:"test_security_groups,omitempty"` // the same for tests; empty: as for cutovers
	PrivateIP          string   `json:"private_ip"`                     // auto, or an address of Subnet
}

// LaunchDisk says what volume one of a source's disks becomes.
type LaunchDisk struct {
	Name       string `json:"name"` // such as /dev/sdb
	VolumeType string `json:"volume_type"`
	IOPS       int    `json:"iops,omitempty"`             // 0: what the type gives by itself
	Throughput int    `json:"throughput_mibps,omitempty"` // MiB/s; 0: what the type gives by itself
}

// ServerSettings is a server block.
type ServerSettings struct {
	Name        string   `json:"name"`
	Replication string   `json:"replication"`
	Launch      string   `json:"launch"`
	Disks       []string `json:"disks"` // empty: what the agent's own configuration says
	Checks      []string `json:"checks"`
	Actions     []string `json:"actions,omitempty"` // after a launch, in this order
	After       []string `json:"after,omitempty"`   // servers of the same application that come first
	Fence       string   `json:"fence"`             // hook: the agent's fence hook stops the writers; confirmed: the operator did
	// FenceMax is how long a hook's fence lasts at most when nothing is committed; 0: for ever.
	FenceMax time.Duration `json:"fence_max_ns,omitempty"`
}

// ApplicationSettings is an application block.
type ApplicationSettings struct {
	Name    string   `json:"name"`
	Servers []string `json:"servers"`
	After   []string `json:"after,omitempty"` // applications that come first
}

// WaveSettings is a wave block.
type WaveSettings struct {
	Name         string       `json:"name"`
	Applications []string     `json:"applications"`
	After        []string     `json:"after"`
	Concurrency  int          `json:"concurrency"`
	Gates        GateSettings `json:"gates,omitzero"`
}

// PlanRequest asks what applying a configuration would change.
type PlanRequest struct {
	Fleet Fleet `json:"fleet"`
	// Targets narrow it to these blocks and what they refer to, as kind.name (server, application, wave); empty: all.
	Targets []string `json:"targets,omitempty"`
}

// Reads implements [Reader].
func (PlanRequest) Reads() bool { return true }

// Plan is the difference between a configuration and what is recorded. It is a value: the same
// configuration and the same records give the same plan and the same hash.
type Plan struct {
	Changes []PlanChange `json:"changes"`
	Hash    string       `json:"hash"` // of the changes, without their effects
	// The rest is what was seen when the plan was made, and no part of the hash.
	Effects  []string    `json:"effects,omitempty"`  // of all changes together
	Findings []Preflight `json:"findings,omitempty"` // critical ones and warnings, of the cloud and of servers that are to be migrated yet
	Warnings []string    `json:"warnings,omitempty"` // what could not be checked
}

// Actions of a plan's changes.
const (
	PlanCreate = "create"
	PlanUpdate = "update"
	PlanRemove = "remove"
)

// PlanChange is what a plan does to one block.
type PlanChange struct {
	Action  string        `json:"action"` // PlanCreate, PlanUpdate, PlanRemove
	Kind    string        `json:"kind"`   // replication, launch, server, application, wave, check
	Name    string        `json:"name"`
	Fields  []FieldChange `json:"fields,omitempty"`  // of an update; of a created block what is set, and what it gets of others, such as launch.subnet
	Content string        `json:"content,omitempty"` // hash of a block that is created or removed
	// Recorded is what the record of a server that is removed or comes back says: a plan is for that only.
	Recorded string   `json:"recorded,omitempty"`
	Effects  []string `json:"effects,omitempty"` // for people: what it costs, and when it counts
}

// FieldChange is one setting that changes. What may be secret is there as its size and hash only.
type FieldChange struct {
	Field  string          `json:"field"`            // path in the block, such as bandwidth.server_bytes
	Before json.RawMessage `json:"before,omitempty"` // absent: there was none
	After  json.RawMessage `json:"after,omitempty"`  // absent: there is none
}

// ApplyRequest applies a configuration. A non-empty Hash must be that of the plan made now; Changes are those of the plan that
// it is from, to say what has moved since.
type ApplyRequest struct {
	Fleet   Fleet        `json:"fleet"`
	Targets []string     `json:"targets,omitempty"`
	Hash    string       `json:"hash"`
	Changes []PlanChange `json:"changes,omitempty"`
}

// StatusRequest asks for the status; names narrow it. Archived servers are left out unless they are named or asked for.
type StatusRequest struct {
	Servers  []string `json:"servers,omitempty"`
	Archived bool     `json:"archived,omitempty"`
}

// Reads implements [Reader].
func (StatusRequest) Reads() bool { return true }

// StartRequest starts a job for the selected servers.
type StartRequest struct {
	Selection
	Kind      JobKind `json:"kind"`
	Confirmed bool    `json:"confirmed"` // the operator says that the sources' writers are stopped (fence = confirmed)
	Force     string  `json:"force"`     // reason for going on where the lifecycle says no
	// Points are the ones to launch from, by server: an id, or [NewestPoint]. Of the other servers a new one is taken.
	Points map[string]string `json:"points,omitempty"`

	Concurrency   int  `json:"concurrency,omitempty"`     // servers at once; 0: the wave's, or a default
	StopOnFailure bool `json:"stop_on_failure,omitempty"` // begin no further server when one has failed
	// KeepClones leaves the volumes of a conversion that fails as they are, for inspection.
	KeepClones bool `json:"keep_clones,omitempty"`
	// Deadline of a cutover: what is not committed shortly before is rolled back; zero: the end of its waves' windows, if they have some.
	Deadline time.Time `json:"deadline,omitzero"`
	// Rehearse does a test of a wave as its cutover would be done.
	Rehearse bool `json:"rehearse,omitempty"`
	Keep     bool `json:"keep,omitempty"` // the instances of a rehearsal
}

// MaxPointAge is the age from which on nothing is launched from a chosen point without a reason.
const MaxPointAge = 24 * time.Hour

// JobsRequest asks for the newest jobs, of one server when Server is not empty.
// Jobs that only find out whether a copy boots are left out, unless a server is named.
type JobsRequest struct {
	Server string `json:"server,omitempty"`
	Limit  int    `json:"limit,omitempty"` // 0: all
}

// Reads implements [Reader].
func (JobsRequest) Reads() bool { return true }

// CancelRequest ends a job before it is complete.
type CancelRequest struct {
	ID     string `json:"id"`
	Reason string `json:"reason,omitempty"`
}

// JobRequest asks for one job; an empty ID means the newest.
type JobRequest struct {
	ID string `json:"id"`
}

// Reads implements [Reader].
func (JobRequest) Reads() bool { return true }

// PointsRequest asks for the points of a server, newest first.
type PointsRequest struct {
	Server string `json:"server"`
}

// Reads implements [Reader].
func (PointsRequest) Reads() bool { return true }

// PointRequest asks for a point now: of one server, or of all servers of an application at once.
type PointRequest struct {
	Server      string `json:"server,omitempty"`
	Application string `json:"application,omitempty"`
}

// NewestPoint stands for the newest complete point of a server.
const NewestPoint = "newest"

// PinRequest keeps a point from being removed by the schedule, or lets go of it. A point that several servers took
// together is pinned with all of its parts.
type PinRequest struct {
	Server string `json:"server"`
	ID     string `json:"id"`
	Pinned bool   `json:"pinned"`
}

// RemoveRequest removes a point and its snapshots, with all parts of a point that several servers took together.
type RemoveRequest struct {
	Server string `json:"server"`
	ID     string `json:"id"`
}

// Kinds of leftovers.
const (
	LeftoverInstance = "instance"
	LeftoverImage    = "image"
	LeftoverVolume   = "volume"
	LeftoverSnapshot = "snapshot"
)

// Leftover is a thing in the cloud that carries our tags, and that no record explains.
type Leftover struct {
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	Role    string    `json:"role"`
	Server  string    `json:"server,omitempty"`
	Job     string    `json:"job,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Removed bool      `json:"removed,omitempty"`
	Error   string    `json:"error,omitempty"` // why it could not be removed
}

// SweepRequest asks for leftovers. Those that are named in Remove are removed, if they still are leftovers.
type SweepRequest struct {
	Remove []string `json:"remove,omitempty"`
}

// Reads implements [Reader].
func (r SweepRequest) Reads() bool { return len(r.Remove) == 0 }

// MoveRequest moves a server to another replication server.
type MoveRequest struct {
	Server string `json:"server"`
	To     string `json:"to,omitempty"` // a replication server, [MoveDedicated], or empty for any other one
}

// VerifyRequest orders a comparison of a server's disks with its replica; with an ID it asks how far that one is.
type VerifyRequest struct {
	Server string `json:"server"`
	ID     string `json:"id,omitempty"`
	Point  string `json:"point,omitempty"` // compare with its snapshots; empty: with the replica
}

// Reads implements [Reader].
func (r VerifyRequest) Reads() bool { return r.ID != "" }

// TokenRequest asks for a one-time enrolment token.
type TokenRequest struct {
	Role string        `json:"role"`
	Name string        `json:"name"`
	TTL  time.Duration `json:"ttl_ns"` // at most one hour; 0: one hour
}

// TokenReply carries the token: the credentials of a bus user that may enrol once and nothing else.
type TokenReply struct {
	Token   string    `json:"token"`
	Bus     Bus       `json:"bus"`
	Expires time.Time `json:"expires"`
}

// VersionRequest asks which build the controller is.
type VersionRequest struct{}

// Reads implements [Reader].
func (VersionRequest) Reads() bool { return true }

// VersionReply says which build the controller is, and since when it leads if it is one of several.
type VersionReply struct {
	Version string `json:"version"`
	Leader  *Lease `json:"leader,omitempty"`
}
