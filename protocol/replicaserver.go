package protocol

import "time"

// ReplicaReport is what a replication server says of itself, at each change and at least every second.
type ReplicaReport struct {
	Name     string          `json:"name"`
	Version  string          `json:"version"`
	Instance string          `json:"instance"` // instance id, from the metadata service
	Replicas []ReplicaStatus `json:"replicas"`
	Problems []Problem       `json:"problems,omitempty"`
	At       time.Time       `json:"at"`
}

// ReplicaStatus is the state of one server's replica.
type ReplicaStatus struct {
	Server     string   `json:"server"`
	Generation string   `json:"generation"`
	Durable    Position `json:"durable"`
	Applied    uint64   `json:"applied"`
	Written    int64    `json:"written_bytes"` // bytes written to the volumes since the start of the process
	Received   int64    `json:"received_bytes"`
	// Held is the point at which the replica stands still, flushed, until the order's Released names it.
	Held     *PointMark `json:"held,omitempty"`
	Naks     int        `json:"naks"`
	Problems []Problem  `json:"problems,omitempty"`
}

// ReplicaOrder is the reply to a [ReplicaReport]: the whole of what the replication server shall do now.
type ReplicaOrder struct {
	Replicas []ReplicaAssignment `json:"replicas"`
}

// ReplicaAssignment gives a server's replica to a replication server. One that is no longer
// in the order is given up: flushed, checkpointed, closed.
type ReplicaAssignment struct {
	Server     string          `json:"server"`
	Generation string          `json:"generation"`
	Stream     string          `json:"stream"`
	Disks      []ReplicaVolume `json:"disks"`    // in disk order
	Released   []string        `json:"released"` // points that need not be held (any more)
}

// ReplicaVolume is the volume behind one disk. Virgin says that it was created empty for this
// generation, so that zeros need not be written before the first checkpoint.
type ReplicaVolume struct {
	Volume    string `json:"volume"` // volume id
	SizeBytes int64  `json:"size_bytes"`
	Virgin    bool   `json:"virgin"`
}

// ReplicaServerUserData is the user data with which the controller launches a replication server.
type ReplicaServerUserData struct {
	Name  string `json:"name"`
	Bus   Bus    `json:"bus"`
	Token string `json:"token"` // one-time enrolment token
}

// Bus says how to reach the bus.
type Bus struct {
	Servers []string `json:"servers"` // URLs, such as tls://127.0.0.1:4222
	CA      string   `json:"ca"`      // PEM of the authority that signed the bus's certificate
}
