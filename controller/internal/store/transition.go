package store

import (
	"cmp"
	"slices"
	"time"

	"rehost/protocol"
)

// maxTransitions bounds those that a server's record keeps: what happens to a server in a second, several times over.
const maxTransitions = 16

// transitions writes down in a server's record which of its states a change of it changes, in the same write: nobody can forget it,
// and none is lost between the record and what is told of it.
func transitions(before protocol.Server, after *protocol.Server, now time.Time) {
	if before.Lifecycle == after.Lifecycle && before.Replication == after.Replication {
		return
	}
	out := slices.Clone(before.Transitions)
	add := func(what protocol.TransitionKind, from, to string) {
		if from == to {
			return
		}
		at := now.UTC().Round(0) // without the reading of the monotonic clock, which JSON does not keep
		if n := len(out); n > 0 && !at.After(out[n-1].At) {
			at = out[n-1].At.Add(time.Nanosecond) // the clock stood still, or was set back
		}
		out = append(out, protocol.Transition{At: at, What: what, From: from, To: to, Job: cmp.Or(after.Job, before.Job)})
	}
	add(protocol.TransitionLifecycle, string(before.Lifecycle), string(after.Lifecycle))
	add(protocol.TransitionReplication, string(before.Replication), string(after.Replication))
	after.Transitions = out[max(0, len(out)-maxTransitions):]
}
