package state

import (
	"slices"
	"time"
)

// State is everything the local cloud remembers. Ids are keys of the maps.
type State struct {
	Volumes   map[string]*Volume
	Snapshots map[string]*Snapshot
	Images    map[string]*Image
	Instances map[string]*Instance
	Groups    map[string]*Group
	Keys      map[string]*KeyPair
	Templates map[string]*Template
	// Tags has the tags of every kind of thing by its id.
	Tags map[string]map[string]string
	// Tokens remembers client tokens, by action and token.
	Tokens map[string]Token
	// LastOrder is the last value of Attachment.Order that was given out.
	LastOrder int64
}

// Token is a creating call that was made with a client token.
type Token struct {
	// Digest is of the request's parameters: the same token with others is an error.
	Digest string
	// ID is what the call created.
	ID string
	At time.Time
}

// Volume is an EBS volume. It is available when Attachment is nil, else in use.
type Volume struct {
	ID         string
	SizeGiB    int64
	SnapshotID string `json:",omitempty"`
	Type       string
	IOPS       int64 `json:",omitempty"`
	Throughput int64 `json:",omitempty"`
	Encrypted  bool  `json:",omitempty"`
	KMSKeyID   string
	Zone       string
	Created    time.Time
	Attachment *Attachment `json:",omitempty"`
	// InitRate is the ordered initialization rate in MiB/s, or 0. Volumes are whole at once here.
	InitRate int64 `json:",omitempty"`
	// Modification is the last change of size or type, nil when there was none.
	Modification *Modification `json:",omitempty"`
}

// Modification is a change of a volume's size or performance.
type Modification struct {
	At       time.Time
	From, To Performance
}

// Performance is what a modification of a volume can change.
type Performance struct {
	SizeGiB          int64
	Type             string
	IOPS, Throughput int64
}

// Attachment joins a volume to an instance.
type Attachment struct {
	InstanceID          string
	Device              string
	At                  time.Time
	DeleteOnTermination bool
	// Order is the order of attachments, over all instances.
	Order int64
}

// Snapshot is an immutable copy of a volume, complete from its first moment.
// Only one that a client writes block by block is Open until it says that it is done.
type Snapshot struct {
	ID       string
	Open     bool `json:",omitempty"`
	VolumeID string
	// Parent is the snapshot that an uploaded one began as.
	Parent      string `json:",omitempty"`
	SizeGiB     int64
	Description string
	Encrypted   bool `json:",omitempty"`
	KMSKeyID    string
	Created     time.Time
}

// Kind says what runs in an instance of an image.
type Kind string

const (
	// Guest is a disk image, booted by QEMU.
	Guest Kind = "guest"
	// Process is a program of ours on the host.
	Process Kind = "process"
)

// Image is an AMI.
type Image struct {
	ID           string
	Kind         Kind
	Name         string
	Description  string
	Architecture string
	BootMode     string
	ENA          bool
	IMDSSupport  string
	TPMSupport   string
	RootDevice   string
	Mappings     []Mapping `json:",omitempty"`
	Created      time.Time
	// Program is the command line of a process image.
	Program []string `json:",omitempty"`
	// Source identifies the file that a configured disk image was made from.
	Source string `json:",omitempty"`
}

// Mapping is a block device of an image or of a launch.
type Mapping struct {
	Device              string
	SnapshotID          string
	SizeGiB             int64
	Type                string
	IOPS                int64
	Throughput          int64
	Encrypted           bool
	KMSKeyID            string
	DeleteOnTermination bool
}

// Phase is the state of an instance, in EC2's words.
type Phase string

// The phases of an instance.
const (
	Pending      Phase = "pending"
	Running      Phase = "running"
	ShuttingDown Phase = "shutting-down"
	Terminated   Phase = "terminated"
	Stopping     Phase = "stopping"
	Stopped      Phase = "stopped"
)

// Code is EC2's number of a phase.
func (p Phase) Code() int {
	return map[Phase]int{Pending: 0, Running: 16, ShuttingDown: 32, Terminated: 48, Stopping: 64, Stopped: 80}[p]
}

// Instance is a virtual machine or a process.
type Instance struct {
	ID            string
	ReservationID string
	ClientToken   string
	ImageID       string
	Kind          Kind
	Program       []string `json:",omitempty"`
	Type          string
	Phase         Phase
	// Reason and ReasonCode say why the instance left the running phase.
	Reason, ReasonCode string
	Launched           time.Time
	Ended              time.Time `json:",omitzero"`
	Zone               string
	// Interfaces are the network interfaces by their device index: there is always a first one.
	Interfaces      []Interface
	MetadataAddress string
	LaunchIndex     int
	// Profile is the ARN of the instance profile, or empty.
	Profile      string
	Tenancy      string
	UserData     []byte
	KeyName      string
	Architecture string
	BootMode     string
	ENA          bool
	RootDevice   string
	OnShutdown   string
	NoTerminate  bool
	Metadata     MetadataOptions
	// Proc is the host process that runs the instance; zero when none does.
	Proc Proc `json:",omitzero"`
}

// Interface is a network interface of an instance. It comes and goes with the instance.
type Interface struct {
	ID       string
	SubnetID string
	Groups   []string
	Address  string // on this machine's loopback
	MAC      string
}

// First is the interface that an instance is known by.
func (in *Instance) First() *Interface {
	if len(in.Interfaces) == 0 { // an instance of nowhere, such as one that only filters are asked of
		return &Interface{}
	}
	return &in.Interfaces[0]
}

// Groups are the security groups of all of an instance's interfaces.
func (in *Instance) Groups() []string {
	var out []string
	for _, n := range in.Interfaces {
		for _, g := range n.Groups {
			if !slices.Contains(out, g) {
				out = append(out, g)
			}
		}
	}
	return out
}

// Proc identifies a process beyond the reuse of its number.
type Proc struct {
	PID int
	// Start is the process's start in clock ticks since boot.
	Start uint64
	// Boot is the boot id of the kernel.
	Boot string
}

// MetadataOptions are the settings of an instance's metadata service.
type MetadataOptions struct {
	Tokens, Endpoint, Tags string
	HopLimit               int64
}

// Group is a security group.
type Group struct {
	ID, Name, Description string
	// Rules open ports to the group's members; Egress is what they may reach.
	Rules, Egress []Rule
}

// Same reports whether two rules allow the same.
func (r Rule) Same(o Rule) bool {
	return r.Protocol == o.Protocol && r.From == o.From && r.To == o.To && r.CIDR == o.CIDR && r.SourceGroup == o.SourceGroup
}

// Rule opens a range of ports. Protocol is tcp, udp, icmp or -1 for all.
type Rule struct {
	ID          string
	Protocol    string
	From, To    int64
	CIDR        string `json:",omitempty"`
	SourceGroup string `json:",omitempty"`
	Description string `json:",omitempty"`
}
