package protocol

import (
	"slices"
	"time"
)

// ActionSettings is an action block: a script of the server's owner for what was launched. It has nothing to do with an operator's [Action].
type ActionSettings struct {
	Name    string      `json:"name"`
	By      ActionBy    `json:"by,omitempty"` // empty: [ActionBySSH]
	Phase   ActionPhase `json:"phase"`
	Content string      `json:"content"` // begins with #!
	// MustSucceed makes a failure one of the job's server; otherwise it is a warning.
	MustSucceed bool `json:"must_succeed"`
	// Repeatable says that it may be begun again when it is not known whether it has ended.
	Repeatable bool          `json:"repeatable,omitempty"`
	Timeout    time.Duration `json:"timeout_ns"` // from its turn on, with the wait for the server
}

// ActionBy says who runs an action.
type ActionBy string

// Who runs an action.
const (
	ActionBySSH       ActionBy = "ssh"        // the controller
	ActionByFirstBoot ActionBy = "first-boot" // the unit that a conversion brings into the guest
)

// ActionBys are all of them.
var ActionBys = []ActionBy{ActionBySSH, ActionByFirstBoot}

// ActionPhase says after which launches an action runs.
type ActionPhase string

// Phases.
const (
	ActionInTest    ActionPhase = "test"
	ActionInCutover ActionPhase = "cutover"
	ActionInBoth    ActionPhase = "both"
)

// ActionPhases are all phases.
var ActionPhases = []ActionPhase{ActionInTest, ActionInCutover, ActionInBoth}

// In says whether the action runs in jobs of a kind.
func (a ActionSettings) In(kind JobKind) bool {
	return kind == JobTest && a.Phase != ActionInCutover || kind == JobCutover && a.Phase != ActionInTest
}

// ActionsOf are the actions of a server in jobs of a kind, in its order.
func (f Fleet) ActionsOf(s ServerSettings, kind JobKind) []ActionSettings {
	var out []ActionSettings
	for _, name := range s.Actions {
		i := slices.IndexFunc(f.Actions, func(a ActionSettings) bool { return a.Name == name })
		if i >= 0 && f.Actions[i].In(kind) {
			out = append(out, f.Actions[i])
		}
	}
	return out
}

// AtFirstBoot says that the action is a script of the first boot.
func (a ActionSettings) AtFirstBoot() bool { return a.By == ActionByFirstBoot }

// ScriptName is how the script of an action at the first boot is called there. No script of a launch block has a dot in its name.
func (a ActionSettings) ScriptName() string { return "action." + a.Name }

// FirstBootScripts are the scripts of the first boot among actions, in their order.
func FirstBootScripts(actions []ActionSettings) []Script {
	var out []Script
	for _, a := range actions {
		if a.AtFirstBoot() {
			out = append(out, Script{Name: a.ScriptName(), Phase: ScriptFirstBoot, Content: a.Content, Timeout: a.Timeout})
		}
	}
	return out
}

// ActionRun is how an action of a job's server went.
type ActionRun struct {
	Name        string        `json:"name"`
	MustSucceed bool          `json:"must_succeed,omitempty"`
	Began       time.Time     `json:"began"`
	Outcome     ScriptOutcome `json:"outcome,omitempty"` // empty: no end of it is recorded
	Code        int           `json:"code,omitempty"`    // exit code; 128 and more when a signal ended it
	Seconds     float64       `json:"seconds,omitempty"`
	Output      string        `json:"output,omitempty"`  // the end of what it said
	Problem     string        `json:"problem,omitempty"` // why there is no exit code
}
