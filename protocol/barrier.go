package protocol

// BarrierPhase is a place at which the servers of a point's group wait for each other.
type BarrierPhase string

// Phases of a group's point, in order. Whoever thaws after the word of the last one has thawed after everybody's freeze.
const (
	BarrierReady  BarrierPhase = "ready"  // almost nothing is left to ship
	BarrierQuiet  BarrierPhase = "quiet"  // the owner's hook has run, and nothing is under way
	BarrierFrozen BarrierPhase = "frozen" // the writers stand still
)

// BarrierPhases lists the phases in order.
var BarrierPhases = []BarrierPhase{BarrierReady, BarrierQuiet, BarrierFrozen}

// BarrierRequest says that a server has arrived at a phase of a group's point, or that it gives the point up.
type BarrierRequest struct {
	Point   string       `json:"point"`
	Phase   BarrierPhase `json:"phase"`
	Members int          `json:"members"`
	Error   string       `json:"error,omitempty"` // why the server gives the point up
}

// BarrierReply is sent when all members have arrived, or with the reason why they will not.
type BarrierReply struct {
	Problem *Problem `json:"problem,omitempty"`
}
