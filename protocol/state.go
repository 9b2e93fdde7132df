package protocol

// Lifecycle is where a server is on its way; the names are MGN's.
type Lifecycle string

// Lifecycle states.
const (
	NotReady        Lifecycle = "NOT_READY"
	ReadyForTest    Lifecycle = "READY_FOR_TEST"
	Testing         Lifecycle = "TESTING"
	ReadyForCutover Lifecycle = "READY_FOR_CUTOVER"
	CuttingOver     Lifecycle = "CUTTING_OVER"
	Cutover         Lifecycle = "CUTOVER"
	Disconnected    Lifecycle = "DISCONNECTED"
)

// Replication is the state of a server's data replication; the names are MGN's.
type Replication string

// Replication states.
const (
	ReplicationStopped      Replication = "STOPPED"
	ReplicationInitiating   Replication = "INITIATING"
	ReplicationInitialSync  Replication = "INITIAL_SYNC"
	ReplicationBacklog      Replication = "BACKLOG"
	ReplicationSnapshot     Replication = "CREATING_SNAPSHOT"
	ReplicationContinuous   Replication = "CONTINUOUS"
	ReplicationPaused       Replication = "PAUSED"
	ReplicationRescan       Replication = "RESCAN"
	ReplicationStalled      Replication = "STALLED"
	ReplicationDisconnected Replication = "DISCONNECTED"
)

// InitiationStep is one of MGN's eleven steps from nothing to the first byte.
type InitiationStep string

// Initiation steps, in order.
const (
	StepWait                InitiationStep = "WAIT"
	StepCreateSecurityGroup InitiationStep = "CREATE_SECURITY_GROUP"
	StepLaunchReplicaServer InitiationStep = "LAUNCH_REPLICATION_SERVER"
	StepBootReplicaServer   InitiationStep = "BOOT_REPLICATION_SERVER"
	StepAuthenticate        InitiationStep = "AUTHENTICATE_WITH_SERVICE"
	StepDownloadSoftware    InitiationStep = "DOWNLOAD_REPLICATION_SOFTWARE"
	StepCreateStagingDisks  InitiationStep = "CREATE_STAGING_DISKS"
	StepAttachStagingDisks  InitiationStep = "ATTACH_STAGING_DISKS"
	StepPairReplicaServer   InitiationStep = "PAIR_REPLICATION_SERVER_WITH_AGENT"
	StepConnectAgent        InitiationStep = "CONNECT_AGENT_TO_REPLICATION_SERVER"
	StepStartDataTransfer   InitiationStep = "START_DATA_TRANSFER"
)

// InitiationSteps lists the steps in order.
var InitiationSteps = []InitiationStep{
	StepWait, StepCreateSecurityGroup, StepLaunchReplicaServer, StepBootReplicaServer, StepAuthenticate, StepDownloadSoftware,
	StepCreateStagingDisks, StepAttachStagingDisks, StepPairReplicaServer, StepConnectAgent, StepStartDataTransfer,
}

// StepStatus is the state of an initiation step or of a step of a job.
type StepStatus string

// Step states.
const (
	StepNotStarted StepStatus = "NOT_STARTED"
	StepInProgress StepStatus = "IN_PROGRESS"
	StepSucceeded  StepStatus = "SUCCEEDED"
	StepFailed     StepStatus = "FAILED"
	StepSkipped    StepStatus = "SKIPPED"
	StepCancelled  StepStatus = "CANCELLED" // of a job: it was cut off, or not begun any more
)

// JobStatus is the state of a job; the names are MGN's, but for the cancelled one.
type JobStatus string

// Job states. A job that is completed may have failed servers; see [JobServer].
const (
	JobPending   JobStatus = "PENDING"
	JobStarted   JobStatus = "STARTED"
	JobCompleted JobStatus = "COMPLETED"
	JobCancelled JobStatus = "CANCELLED"
)

// Ended says that nothing of the job is to be done any more.
func (s JobStatus) Ended() bool { return s == JobCompleted || s == JobCancelled }

// JobKind says what a job does.
type JobKind string

// Job kinds.
const (
	JobTest      JobKind = "START_TEST"
	JobCutover   JobKind = "START_CUTOVER"
	JobFinalize  JobKind = "FINALIZE"
	JobRevert    JobKind = "REVERT"
	JobTerminate JobKind = "TERMINATE"
)

// JobEventName names an entry of a job's log; the names are MGN's, plus ours for what MGN has no word for.
type JobEventName string

// Job events.
const (
	EventJobStart        JobEventName = "JOB_START"
	EventServerSkipped   JobEventName = "SERVER_SKIPPED"
	EventFenceStart      JobEventName = "FENCE_START"
	EventFenceEnd        JobEventName = "FENCE_END"
	EventSourceReleased  JobEventName = "SOURCE_RELEASED" // a cutover failed: the source's writers go on
	EventSnapshotStart   JobEventName = "SNAPSHOT_START"
	EventSnapshotEnd     JobEventName = "SNAPSHOT_END"
	EventSnapshotFail    JobEventName = "SNAPSHOT_FAIL"
	EventPreviousPoint   JobEventName = "USING_PREVIOUS_SNAPSHOT" // an operator chose an earlier point
	EventConversionStart JobEventName = "CONVERSION_START"
	EventConversionEnd   JobEventName = "CONVERSION_END"
	EventConversionFail  JobEventName = "CONVERSION_FAIL"
	EventLaunchStart     JobEventName = "LAUNCH_START"
	EventLaunchEnd       JobEventName = "LAUNCH_END"
	EventLaunchFailed    JobEventName = "LAUNCH_FAILED"
	EventActionStart     JobEventName = "ACTION_START"
	EventActionEnd       JobEventName = "ACTION_END"
	EventActionFail      JobEventName = "ACTION_FAIL" // a warning, when it need not succeed
	EventCheckStart      JobEventName = "CHECK_START"
	EventCheckEnd        JobEventName = "CHECK_END"
	EventCheckFail       JobEventName = "CHECK_FAIL"
	EventCleanupStart    JobEventName = "CLEANUP_START"
	EventCleanupEnd      JobEventName = "CLEANUP_END"
	EventCleanupFail     JobEventName = "CLEANUP_FAIL"
	EventCommit          JobEventName = "APPLICATION_COMMITTED"   // its targets take over
	EventRollback        JobEventName = "APPLICATION_ROLLED_BACK" // decided: its sources go on, and its targets are terminated
	EventPass            JobEventName = "APPLICATION_PASSED"      // in a rehearsal: all of it is launched and checked
	EventFail            JobEventName = "APPLICATION_FAILED"      // in a rehearsal: something of it is not
	EventJobCancel       JobEventName = "JOB_CANCEL"
	EventJobEnd          JobEventName = "JOB_END"
)

// JobEvents lists the names that are fixed; a step without one has its own name with _FAIL behind it.
var JobEvents = []JobEventName{
	EventJobStart, EventServerSkipped, EventFenceStart, EventFenceEnd, EventSourceReleased, EventSnapshotStart,
	EventSnapshotEnd, EventSnapshotFail, EventPreviousPoint, EventConversionStart, EventConversionEnd,
	EventConversionFail, EventLaunchStart, EventLaunchEnd, EventLaunchFailed, EventActionStart, EventActionEnd,
	EventActionFail, EventCheckStart, EventCheckEnd,
	EventCheckFail, EventCleanupStart, EventCleanupEnd, EventCleanupFail, EventCommit, EventRollback, EventPass, EventFail,
	EventJobCancel, EventJobEnd,
}
