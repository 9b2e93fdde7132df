// Package lifecycle decides where a server is on its way. It is pure: facts in, a state
// and a reason out. The edges are data, and the diagram in docs/lifecycle.md is made of
// them. It performs nothing.
package lifecycle

import (
	"time"

	"rehost/protocol"
)

// Facts is all that the decision depends on.
type Facts struct {
	Wanted     bool             // the server is in the applied configuration
	Launchable bool             // the initial sync was complete once, in this generation
	Job        protocol.JobKind // that works on the server now, or empty
	Tested     bool             // a test passed its checks
	Launched   bool             // a cutover launched the target and its checks passed
	Finalized  bool             // a cutover was finalized
	Stopped    bool             // an operator wants it not to replicate
	Disconnect bool             // an operator disconnected it
}

// FactsOf reads the facts from a record.
func FactsOf(r protocol.Server, wanted bool) Facts {
	return Facts{
		Wanted: wanted, Launchable: !r.Continuous.IsZero(), Job: r.JobKind, Tested: !r.Tested.IsZero(),
		Launched: r.Cutover != nil, Finalized: !r.Finalized.IsZero(), Stopped: !r.Stopped.IsZero(), Disconnect: !r.Disconnect.IsZero(),
	}
}

// Edge is a declared change of state, and why it happens.
type Edge struct {
	From, To protocol.Lifecycle
	Reason   string
}

// Reasons of the edges.
const (
	reasonSynced       = "initial sync complete"
	reasonTest         = "test started"
	reasonPassed       = "test passed"
	reasonTestFailed   = "test failed or cancelled"
	reasonMarked       = "marked as ready"
	reasonWithdrawn    = "test withdrawn"
	reasonCutover      = "cutover started"
	reasonReverted     = "cutover failed, cancelled or reverted"
	reasonFinalized    = "cutover finalized"
	reasonRestarted    = "replication restarted"
	reasonStopped      = "replication stopped"
	reasonRemoved      = "server removed from the configuration"
	reasonDisconnected = "disconnected by an operator"
	reasonReturned     = "server is in the configuration again, or started"
)

// Edges are all changes of state that can happen.
var Edges = []Edge{
	{protocol.NotReady, protocol.ReadyForTest, reasonSynced},
	{protocol.NotReady, protocol.Disconnected, reasonRemoved},
	{protocol.NotReady, protocol.Disconnected, reasonDisconnected},
	{protocol.ReadyForTest, protocol.Testing, reasonTest},
	{protocol.ReadyForTest, protocol.CuttingOver, reasonCutover},
	{protocol.ReadyForTest, protocol.NotReady, reasonRestarted},
	{protocol.ReadyForTest, protocol.NotReady, reasonStopped},
	{protocol.ReadyForTest, protocol.Disconnected, reasonRemoved},
	{protocol.ReadyForTest, protocol.Disconnected, reasonDisconnected},
	{protocol.ReadyForTest, protocol.ReadyForCutover, reasonMarked},
	{protocol.Testing, protocol.ReadyForCutover, reasonPassed},
	{protocol.Testing, protocol.ReadyForTest, reasonTestFailed},
	{protocol.ReadyForCutover, protocol.Testing, reasonTest},
	{protocol.ReadyForCutover, protocol.CuttingOver, reasonCutover},
	{protocol.ReadyForCutover, protocol.NotReady, reasonRestarted},
	{protocol.ReadyForCutover, protocol.NotReady, reasonStopped},
	{protocol.ReadyForCutover, protocol.Disconnected, reasonRemoved},
	{protocol.ReadyForCutover, protocol.Disconnected, reasonDisconnected},
	{protocol.ReadyForCutover, protocol.ReadyForTest, reasonWithdrawn},
	{protocol.CuttingOver, protocol.Cutover, reasonFinalized},
	{protocol.CuttingOver, protocol.ReadyForCutover, reasonReverted},
	{protocol.CuttingOver, protocol.ReadyForTest, reasonReverted},
	{protocol.Cutover, protocol.Disconnected, reasonRemoved},
	{protocol.Disconnected, protocol.NotReady, reasonReturned},
}

// Next returns the state that the facts imply, and the reason when it is another one.
// One call takes one edge at most.
func Next(cur protocol.Lifecycle, f Facts) (protocol.Lifecycle, string) {
	switch cur {
	case protocol.NotReady:
		return fromNotReady(f)
	case protocol.ReadyForTest, protocol.ReadyForCutover:
		return fromReady(cur, f)
	case protocol.Testing:
		return fromTesting(f)
	case protocol.CuttingOver:
		return fromCuttingOver(f)
	case protocol.Cutover:
		if !f.Wanted {
			return protocol.Disconnected, reasonRemoved
		}
	case protocol.Disconnected:
		if f.Wanted && !f.Finalized && !f.Disconnect {
			return protocol.NotReady, reasonReturned
		}
	}
	if cur == "" {
		return protocol.NotReady, ""
	}
	return cur, ""
}

// Advance follows the edges that a record's facts imply, and notes when. It returns the reason
// of the last one, or "" when the state is as before.
func Advance(r *protocol.Server, wanted bool, now time.Time) string {
	last := ""
	for range len(Edges) {
		next, reason := Next(r.Lifecycle, FactsOf(*r, wanted))
		if next == r.Lifecycle {
			break
		}
		r.Lifecycle, r.Since, last = next, now, reason
	}
	return last
}

func fromNotReady(f Facts) (protocol.Lifecycle, string) {
	switch {
	case !f.Wanted && f.Job == "":
		return protocol.Disconnected, reasonRemoved
	case f.Disconnect && f.Job == "":
		return protocol.Disconnected, reasonDisconnected
	case f.Launchable && !f.Stopped:
		return protocol.ReadyForTest, reasonSynced
	}
	return protocol.NotReady, ""
}

// fromReady serves both ready states: they differ in whether a test has passed, and the way
// from one to the other is a test.
func fromReady(cur protocol.Lifecycle, f Facts) (protocol.Lifecycle, string) {
	switch {
	case f.Job == protocol.JobTest:
		return protocol.Testing, reasonTest
	case f.Job == protocol.JobCutover:
		return protocol.CuttingOver, reasonCutover
	case f.Job != "":
		return cur, ""
	case !f.Wanted:
		return protocol.Disconnected, reasonRemoved
	case f.Disconnect:
		return protocol.Disconnected, reasonDisconnected
	case f.Stopped:
		return protocol.NotReady, reasonStopped
	case !f.Launchable:
		return protocol.NotReady, reasonRestarted
	case cur == protocol.ReadyForTest && f.Tested:
		return protocol.ReadyForCutover, reasonMarked
	case cur == protocol.ReadyForCutover && !f.Tested:
		return protocol.ReadyForTest, reasonWithdrawn
	}
	return cur, ""
}

func fromTesting(f Facts) (protocol.Lifecycle, string) {
	switch {
	case f.Job != "":
		return protocol.Testing, ""
	case f.Tested:
		return protocol.ReadyForCutover, reasonPassed
	}
	return protocol.ReadyForTest, reasonTestFailed
}

func fromCuttingOver(f Facts) (protocol.Lifecycle, string) {
	switch {
	case f.Finalized:
		return protocol.Cutover, reasonFinalized
	case f.Job != "" || f.Launched:
		return protocol.CuttingOver, ""
	case f.Tested:
		return protocol.ReadyForCutover, reasonReverted
	}
	return protocol.ReadyForTest, reasonReverted
}
