package protocol

import "strings"

// Subjects and names on the bus. A sender's identity is a token of the subject, so
// that a permission on the subject is the proof of the identity.

// BlocksSubject carries the frames of one server: the agent publishes, the server's stream stores.
func BlocksSubject(server string) string { return "rehost.v1.blocks." + server }

// StreamName names the stream of one generation of a server's replica. The generation is
// random, so that nothing that a broker kept under an old name is taken for the new one.
func StreamName(server, generation string) string { return "BLOCKS_" + server + "_" + generation }

// SignalSubject carries [Signal]s from the replication server to an agent.
func SignalSubject(server string) string { return "rehost.v1.agent." + server + ".signal" }

// PokeSubject wakes an agent so that it reports now and takes its next order; the message is empty.
func PokeSubject(server string) string { return "rehost.v1.agent." + server + ".poke" }

// ReplicaPokeSubject does the same for a replication server.
func ReplicaPokeSubject(replicaServer string) string {
	return "rehost.v1.replicaserver." + replicaServer + ".poke"
}

// AgentReportSubject takes an [AgentReport] and answers with an [AgentOrder].
func AgentReportSubject(server string) string { return "rehost.v1.controller.agent." + server }

// ReplicaReportSubject takes a [ReplicaReport] and answers with a [ReplicaOrder].
func ReplicaReportSubject(replicaServer string) string {
	return "rehost.v1.controller.replicaserver." + replicaServer
}

// ScanSubject carries an agent's [ScanRequest]s to whoever keeps its replica.
func ScanSubject(server string) string { return "rehost.v1.scan." + server }

// HashesSubject carries the [ScanReply]s to the agent.
func HashesSubject(server string) string { return "rehost.v1.agent." + server + ".hashes" }

// BarrierSubject takes a [BarrierRequest] and answers with a [BarrierReply] when all have arrived.
func BarrierSubject(server string) string { return "rehost.v1.controller.barrier." + server }

// SnapshotSubject takes a [SnapshotRequest] and answers with a [SnapshotReply].
func SnapshotSubject(server string) string { return "rehost.v1.controller.snapshot." + server }

// EnrolSubject takes an [EnrolRequest] and answers with an [EnrolReply].
const EnrolSubject = "rehost.v1.controller.enrol"

// OperatorSubject takes the request of one [Verb] from one operator and answers with its reply.
func OperatorSubject(v Verb, operator string) string {
	return "rehost.v1.controller.operator." + string(v) + "." + operator
}

// GrantSubject takes a [GrantRequest] and answers with an [Operator]. No operator may publish it: it is for who holds the keys that
// sign identities, on the controller's machine.
func GrantSubject(by string) string { return "rehost.v1.controller.grant." + by }

// The audit log: a stream, and the subject on which its entries are published. Only a controller may.
const (
	AuditStream  = "rehost_audit"
	AuditSubject = "rehost.v1.audit"
)

// The events: a stream, and the subjects on which they are published. Only a controller may.
const (
	EventStream   = "rehost_events"
	EventSubjects = "rehost.v1.event.>"
)

// EventSubject is where an event is published: what it is about, and its type without the prefix.
func EventSubject(e Event) string {
	return "rehost.v1.event." + e.About() + "." + strings.TrimPrefix(e.Type, EventTypePrefix)
}

// ServerEventSubjects are those of all events about a server.
func ServerEventSubjects(server string) string {
	return "rehost.v1.event." + EventsOfServer(server) + ".>"
}

// InboxPrefix is the reply prefix of one identity; each may subscribe to its own only.
func InboxPrefix(role, name string) string { return "_INBOX_" + role + "_" + name }

// RecordFormat is what the buckets and the audit log say of what is in them. A controller does not start on records of a greater one. It is
// to be raised when an older controller would misread a record, not when it would only miss a new field: such a record it does not rewrite.
const RecordFormat = 1

// Buckets of the control plane. Every record is JSON and is changed by compare-and-swap only.
const (
	BucketServers     = "rehost_servers"     // key: server; value: [Server]
	BucketPoints      = "rehost_points"      // key: server.point; value: [Point]
	BucketJobs        = "rehost_jobs"        // key: job; value: [Job]
	BucketFleet       = "rehost_fleet"       // key: "applied"; value: [Fleet]
	BucketStaging     = "rehost_staging"     // key: replication server; value: [ReplicaServer]
	BucketCheckpoints = "rehost_checkpoints" // key: server.generation; value: [Checkpoint]
	BucketEnrolments  = "rehost_enrolments"  // key: hash of a token; value: [Enrolment]
	BucketTold        = "rehost_told"        // key: what an event's record is, such as server.web-1; value: [Told]
	BucketWebhooks    = "rehost_webhooks"    // key: webhook; value: [Webhook]
	BucketOperators   = "rehost_operators"   // key: operator; value: [Operator]
	BucketApprovals   = "rehost_approvals"   // key: wave.role.operator; value: [Approval]
)

// BucketLease has which controller leads, when there may be several: key [LeaseKey], value [Lease]. It is nobody's record of the fleet: no backup has it.
const BucketLease = "rehost_lease"

// BucketScreenshots has screens of instances: key job.server, value [Screenshot]. No backup has them.
const BucketScreenshots = "rehost_screenshots"

// Buckets lists every bucket of records.
var Buckets = []string{
	BucketServers, BucketPoints, BucketJobs, BucketFleet, BucketStaging, BucketCheckpoints, BucketEnrolments,
	BucketTold, BucketWebhooks,
	BucketOperators, BucketApprovals,
}
