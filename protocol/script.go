package protocol

import "time"

// Script is a program of the server's owner, the only kind that a conversion brings into a guest or runs there.
type Script struct {
	Name    string        `json:"name"`
	Phase   ScriptPhase   `json:"phase"`
	Content string        `json:"content"`              // begins with #!
	Timeout time.Duration `json:"timeout_ns,omitempty"` // 0: [DefaultScriptTimeout]
	// MayFail makes a failure a warning. A script of the first boot always may: the conversion is over by then.
	MayFail bool `json:"may_fail,omitempty"`
}

// ScriptPhase says when a script runs.
type ScriptPhase string

// Phases, in their order.
const (
	ScriptBeforeMount     ScriptPhase = "before-mount"     // with the appliance's programs, on the disks
	ScriptAfterConversion ScriptPhase = "after-conversion" // with the guest's programs, in its root
	ScriptFirstBoot       ScriptPhase = "first-boot"       // once, when the guest has booted as an instance
)

// FirstBootWord begins each line that the unit of the first boot writes to the console of its own: "NN-NAME begins", "NN-NAME ended with CODE".
const FirstBootWord = "rehost: first boot: "

// ScriptPhases are all phases.
var ScriptPhases = []ScriptPhase{ScriptBeforeMount, ScriptAfterConversion, ScriptFirstBoot}

// DefaultScriptTimeout is how long a script may take, as with AWS MGN.
const DefaultScriptTimeout = 10 * time.Minute

// Limit is how long the script may take.
func (s Script) Limit() time.Duration {
	if s.Timeout == 0 {
		return DefaultScriptTimeout
	}
	return s.Timeout
}

// ScriptsOf are the scripts of a phase.
func ScriptsOf(scripts []Script, phase ScriptPhase) []Script {
	var found []Script
	for _, s := range scripts {
		if s.Phase == phase {
			found = append(found, s)
		}
	}
	return found
}

// ScriptTime is how long the scripts may make a conversion longer.
func ScriptTime(scripts []Script) time.Duration {
	var sum time.Duration
	for _, s := range scripts {
		if s.Phase != ScriptFirstBoot {
			sum += s.Limit()
		}
	}
	return sum
}

// ScriptRun is how a script of a conversion went.
type ScriptRun struct {
	Name    string        `json:"name"`
	Phase   ScriptPhase   `json:"phase"`
	Outcome ScriptOutcome `json:"outcome"`
	Code    int           `json:"code,omitempty"` // exit code; 128 and the signal's number when a signal ended it
	Seconds float64       `json:"seconds,omitempty"`
	Output  string        `json:"output,omitempty"` // the end of what it said
}

// ScriptOutcome says how a script ended.
type ScriptOutcome string

// Outcomes.
const (
	ScriptPlanned   ScriptOutcome = "planned"   // it would run
	ScriptSucceeded ScriptOutcome = "succeeded" // its exit code was 0
	ScriptFailed    ScriptOutcome = "failed"    // it was another one, or the script could not be started
	ScriptTimedOut  ScriptOutcome = "timed-out" // it was killed, with all that it had started
	ScriptUnknown   ScriptOutcome = "unknown"   // of an action: whether it has ended is not known
)
