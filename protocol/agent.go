package protocol

import "time"

// AgentReport is what an agent says of itself, within a second of each change and at least every three seconds.
type AgentReport struct {
	Server      string        `json:"server"`
	Version     string        `json:"version"`
	Instance    string        `json:"instance,omitempty"` // random, of the process
	Host        Host          `json:"host"`
	Tier        string        `json:"tier"`                 // of the tracker: btf, classic, scan
	TierNotes   []string      `json:"tier_notes,omitempty"` // why it is none of the better ones, and what it cannot do here
	Generation  string        `json:"generation"`
	Replication Replication   `json:"replication"`
	Disks       []DiskReport  `json:"disks"`
	Sent        int64         `json:"sent_bytes"`   // payload bytes published, after compression
	Read        int64         `json:"read_bytes"`   // bytes read from the source's disks
	Rate        int64         `json:"rate_bytes"`   // disk bytes made durable per second, lately
	Lag         time.Duration `json:"lag_ns"`       // age of the oldest change that is not durable; 0 when there is none
	Remaining   time.Duration `json:"remaining_ns"` // predicted time until all is durable; 0 when unknown or done
	Durable     Position      `json:"durable"`
	Fenced      bool          `json:"fenced"`
	FenceID     string        `json:"fence_id,omitempty"`     // of the order that the fence is for; an older agent names none
	FenceKept   bool          `json:"fence_kept,omitempty"`   // it does not end by itself any more
	FenceLapsed bool          `json:"fence_lapsed,omitempty"` // it has ended by itself: its time was over, or the host was restarted
	Points      []PointReport `json:"points,omitempty"`       // outcome of the points ordered lately
	Verify      *VerifyReport `json:"verify,omitempty"`
	SurveyID    string        `json:"survey_id,omitempty"` // of the newest one; empty: there is none
	Survey      *Survey       `json:"survey,omitempty"`    // the newest one, unless the last order says that the controller holds it
	Slow        *Slow         `json:"slow,omitempty"`      // what bounds the rate now; nil when there is nothing to do
	Problems    []Problem     `json:"problems,omitempty"`
	At          time.Time     `json:"at"`
}

// Host is what an agent knows of the machine.
type Host struct {
	Hostname    string `json:"hostname"`
	BootID      string `json:"boot_id"`
	Kernel      string `json:"kernel"`
	OS          string `json:"os"`        // PRETTY_NAME of os-release
	BootMode    string `json:"boot_mode"` // bios or uefi
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memory_bytes"`
	Address     string `json:"address,omitempty"` // IPv4, of the interface that the default route leads through
}

// DiskReport counts the bytes of one disk. Total = clean + Need + Pending.
type DiskReport struct {
	Name         string `json:"name"` // as configured, such as /dev/sda
	Boot         bool   `json:"boot"` // carries the root filesystem or the boot loader
	SizeBytes    int64  `json:"size_bytes"`
	GranuleBytes int64  `json:"granule_bytes"`
	Replicated   int64  `json:"replicated_bytes"` // of the initial sync
	Need         int64  `json:"need_bytes"`       // backlog, not yet read
	Pending      int64  `json:"pending_bytes"`    // sent, not yet durable
	Rescanned    int64  `json:"rescanned_bytes"`  // compared by hash with the replica in the newest rescan
	WriteRate    int64  `json:"write_rate_bytes"` // bytes that the host writes to it per second, over about a quarter of an hour
	Free         int64  `json:"free_bytes"`       // not sent: its filesystem did not use it when the sync began, and nobody wrote there since
}

// SlowPart names a part of the way from the source's disk to the volume.
type SlowPart string

// Parts of the way, in its order. Their names begin the stall reasons that people see.
const (
	SlowSourceRead SlowPart = "source-read"
	SlowAgentCPU   SlowPart = "agent-cpu"
	SlowLimit      SlowPart = "bandwidth-limit" // the configured one
	SlowLink       SlowPart = "link"            // frames wait for the broker's acknowledgement
	SlowBroker     SlowPart = "broker"          // it refuses frames or is gone
	SlowVolume     SlowPart = "volume-write"
	SlowReplica    SlowPart = "replicaserver" // it does not answer
)

// Slow says which part of the way bounds the rate, and what shows it.
type Slow struct {
	Part     SlowPart `json:"part"`
	Evidence string   `json:"evidence"` // measured, for people
}

// PointState is the outcome of an ordered point at the agent.
type PointState string

// States of an ordered point at the agent.
const (
	PointTaking PointState = "taking"
	PointSent   PointState = "sent" // its frame is published; the replica decides the rest
	PointFailed PointState = "failed"
)

// PointReport says what became of an ordered point. A failed point is not taken again: the controller orders a new one.
type PointReport struct {
	ID      string        `json:"id"`
	State   PointState    `json:"state"`
	Grade   Grade         `json:"grade,omitempty"`
	Frozen  time.Duration `json:"frozen_ns"`
	Taken   time.Time     `json:"taken"`
	Problem *Problem      `json:"problem,omitempty"`
}

// Wanted is what an agent shall do.
type Wanted string

// What an agent may be told to do.
const (
	WantNothing    Wanted = "" // wait: the staging side is not ready
	WantReplicate  Wanted = "replicate"
	WantPause      Wanted = "pause"      // send nothing, and track what is written
	WantStop       Wanted = "stop"       // end the replication, and wait
	WantDisconnect Wanted = "disconnect" // detach the tracker, remove the pins, end
)

// AgentOrder is the reply to an [AgentReport]: the whole of what the agent shall do now.
type AgentOrder struct {
	Wanted     Wanted        `json:"wanted"`
	Generation string        `json:"generation"`
	Window     int64         `json:"window_bytes"`           // unacknowledged bytes at most; 0: the agent's default
	Fence      bool          `json:"fence"`                  // stop the source's writers (the fence hook); false: release them
	FenceID    string        `json:"fence_id,omitempty"`     // one that has lapsed is not begun again
	FenceMax   time.Duration `json:"fence_max_ns,omitempty"` // after which the agent releases them by itself; 0: never
	FenceKeep  bool          `json:"fence_keep,omitempty"`   // the fence is not to end by itself any more
	Point      *PointOrder   `json:"point,omitempty"`
	Problem    *Problem      `json:"problem,omitempty"` // why the agent is not wanted, when it is not
	Verify     *VerifyOrder  `json:"verify,omitempty"`
	Bandwidth  int64         `json:"bandwidth_bytes"` // bytes of frames per second at most; 0: unlimited
	Survey     *SurveyOrder  `json:"survey,omitempty"`
	SurveyHeld string        `json:"survey_held,omitempty"` // id of the survey that need not be reported again
}

// PointOrder asks for one point. It is repeated until a [PointReport] of its id comes.
type PointOrder struct {
	ID     string        `json:"id"`
	Budget time.Duration `json:"budget_ns"` // longest wanted freeze; 0: the agent's default
	// Group names the application whose servers take this point together, Members says how many they are; 0 or 1: alone.
	Group   string `json:"group,omitempty"`
	Members int    `json:"members,omitempty"`
}
