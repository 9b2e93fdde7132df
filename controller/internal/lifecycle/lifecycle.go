// Package lifecycle decides where a server is on its way. It is pure: facts in, a state
// and a reason out. The edges are data, and the diagram in docs/lifecycle.md is made of
// them. It performs nothing.
package lifecycle

import (
	"fmt"
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
}

// FactsOf reads the facts from a record.
func FactsOf(r protocol.Server, wanted bool) Facts {
	return Facts{
		Wanted: wanted, Launchable: !r.Continuous.IsZero(), Job: r.JobKind, Tested: !r.Tested.IsZero(),
		Launched: r.Cutover != nil, Finalized: !r.Finalized.IsZero(),
	}
}

// Edge is a declared change of state, and why it happens.
type Edge struct {
	From, To protocol.Lifecycle
	Reason   string
}

// Reasons of the edges.
const (
	reasonSynced     = "initial sync complete"
	reasonTest       = "test started"
	reasonPassed     = "test passed"
	reasonTestFailed = "test failed"
	reasonCutover    = "cutover started"
	reasonReverted   = "cutover failed"
	reasonFinalized  = "cutover finalized"
	reasonRestarted  = "replication restarted"
	reasonRemoved    = "server removed from the configuration"
	reasonReturned   = "server is in the configuration again"
)

// Edges are all changes of state that can happen.
var Edges = []Edge{
	{protocol.NotReady, protocol.ReadyForTest, reasonSynced},
	{protocol.NotReady, protocol.Disconnected, reasonRemoved},
	{protocol.ReadyForTest, protocol.Testing, reasonTest},
	{protocol.ReadyForTest, protocol.CuttingOver, reasonCutover},
	{protocol.ReadyForTest, protocol.NotReady, reasonRestarted},
	{protocol.ReadyForTest, protocol.Disconnected, reasonRemoved},
	{protocol.Testing, protocol.ReadyForCutover, reasonPassed},
	{protocol.Testing, protocol.ReadyForTest, reasonTestFailed},
	{protocol.ReadyForCutover, protocol.Testing, reasonTest},
	{protocol.ReadyForCutover, protocol.CuttingOver, reasonCutover},
	{protocol.ReadyForCutover, protocol.NotReady, reasonRestarted},
	{protocol.ReadyForCutover, protocol.Disconnected, reasonRemoved},
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
		if f.Wanted && !f.Finalized {
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
	case f.Launchable:
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
	case !f.Launchable:
		return protocol.NotReady, reasonRestarted
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

// Refusal says why a job must not work on a server now, with what to do instead; nil when it may.
// force is the operator's reason for going on where only prudence says no.
func Refusal(r protocol.Server, kind protocol.JobKind, force string) *protocol.Problem {
	no := func(hint, format string, args ...any) *protocol.Problem {
		return &protocol.Problem{Code: protocol.ProblemNotAllowed, Server: r.Name, Message: r.Name + ": " + fmt.Sprintf(format, args...), Hint: hint}
	}
	if r.Job != "" {
		p := no("wait for it: rehost job show "+r.Job, "job %s works on it", r.Job)
		p.Code = protocol.ProblemConflict
		return p
	}
	switch kind {
	case protocol.JobTest:
		return refuseTest(r, no)
	case protocol.JobCutover:
		return refuseCutover(r, force, no)
	case protocol.JobFinalize:
		if r.Lifecycle != protocol.CuttingOver || r.Cutover == nil {
			return no("run the cutover first: rehost wave cutover", "it is %s and has no launched target", r.Lifecycle)
		}
	case protocol.JobTerminate:
		if r.Test == nil {
			return no("nothing is to be done", "it has no test instance")
		}
	}
	return nil
}

type refuser func(hint, format string, args ...any) *protocol.Problem

func refuseTest(r protocol.Server, no refuser) *protocol.Problem {
	switch r.Lifecycle {
	case protocol.ReadyForTest, protocol.ReadyForCutover:
		return nil
	case protocol.NotReady:
		return no("wait for the initial sync: rehost status", "its initial sync is not complete")
	case protocol.Testing, protocol.CuttingOver, protocol.Cutover, protocol.Disconnected:
	}
	return no("see rehost status", "it is %s", r.Lifecycle)
}

func refuseCutover(r protocol.Server, force string, no refuser) *protocol.Problem {
	switch r.Lifecycle {
	case protocol.ReadyForCutover:
		return nil
	case protocol.ReadyForTest:
		if force != "" {
			return nil
		}
		return no("test it first: rehost wave test; or give a reason with --force", "no test of it has passed")
	case protocol.NotReady:
		return no("wait for the initial sync: rehost status", "its initial sync is not complete")
	case protocol.CuttingOver:
		return no("finalize it: rehost wave finalize", "its target is launched already")
	case protocol.Testing, protocol.Cutover, protocol.Disconnected:
	}
	return no("see rehost status", "it is %s", r.Lifecycle)
}
