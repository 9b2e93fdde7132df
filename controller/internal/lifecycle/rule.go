package lifecycle

import (
	"fmt"
	"slices"
	"time"

	"rehost/protocol"
)

// Rule says where an action makes sense.
type Rule struct {
	Action protocol.Action
	Verb   string               // the command, after "rehost server"
	MGN    string               // MGN's name for it; empty: it has none
	In     []protocol.Lifecycle // the states in which it is allowed
	Forced []protocol.Lifecycle // those in which it needs a reason
	Busy   bool                 // also while a job works on the server
	// unmet is what is lacking beside the state, with what to do; nil: nothing can be.
	unmet func(r protocol.Server) (message, hint string)
}

var (
	anywhere = []protocol.Lifecycle{
		protocol.NotReady, protocol.ReadyForTest, protocol.Testing, protocol.ReadyForCutover, protocol.CuttingOver, protocol.Cutover, protocol.Disconnected,
	}
	replicating = []protocol.Lifecycle{protocol.NotReady, protocol.ReadyForTest, protocol.ReadyForCutover, protocol.CuttingOver}
	over        = []protocol.Lifecycle{protocol.Cutover, protocol.Disconnected}
	ready       = []protocol.Lifecycle{protocol.ReadyForTest, protocol.ReadyForCutover}
	untouched   = append([]protocol.Lifecycle{protocol.NotReady}, ready...) // no cutover to be finalized or reverted
)

// Rules has one rule for each of [protocol.Actions], in that order.
var Rules = []Rule{
	{Action: protocol.ActionStart, Verb: "start", MGN: "StartReplication", In: []protocol.Lifecycle{protocol.NotReady, protocol.Disconnected}, unmet: unmetStart},
	{Action: protocol.ActionRetry, Verb: "retry", MGN: "RetryDataReplication", In: replicating, unmet: unmetRetry},
	{Action: protocol.ActionPause, Verb: "pause", MGN: "PauseReplication", In: replicating, unmet: unmetPause},
	{Action: protocol.ActionResume, Verb: "resume", MGN: "ResumeReplication", In: replicating, unmet: unmetResume},
	{Action: protocol.ActionStop, Verb: "stop", MGN: "StopReplication", In: untouched, unmet: unmetStop},
	{Action: protocol.ActionTest, Verb: "test", MGN: "StartTest", In: ready, unmet: unmetLaunch},
	{Action: protocol.ActionReady, Verb: "ready", MGN: "ChangeServerLifeCycleState READY_FOR_CUTOVER", Forced: []protocol.Lifecycle{protocol.ReadyForTest}},
	{
		Action: protocol.ActionCutover, Verb: "cutover", MGN: "StartCutover", In: []protocol.Lifecycle{protocol.ReadyForCutover},
		Forced: []protocol.Lifecycle{protocol.ReadyForTest}, unmet: unmetLaunch,
	},
	{
		Action: protocol.ActionRevert, Verb: "revert", MGN: "ChangeServerLifeCycleState READY_FOR_TEST, READY_FOR_CUTOVER",
		In: []protocol.Lifecycle{protocol.ReadyForCutover, protocol.CuttingOver},
	},
	{
		Action: protocol.ActionFinalize, Verb: "finalize", MGN: "FinalizeCutover, ChangeServerLifeCycleState CUTOVER",
		In: []protocol.Lifecycle{protocol.CuttingOver}, unmet: unmetFinalize,
	},
	{Action: protocol.ActionTerminate, Verb: "terminate", MGN: "TerminateTargetInstances", In: anywhere, unmet: unmetTerminate},
	{Action: protocol.ActionDisconnect, Verb: "disconnect", MGN: "DisconnectFromService", In: untouched},
	{Action: protocol.ActionArchive, Verb: "archive", MGN: "MarkAsArchived", In: over, unmet: unmetArchive},
	{Action: protocol.ActionUnarchive, Verb: "unarchive", In: anywhere, unmet: unmetUnarchive},
	{Action: protocol.ActionRevoke, Verb: "revoke", In: anywhere, Busy: true},
	{Action: protocol.ActionConfirm, Verb: "confirm", In: anywhere, unmet: unmetConfirm},
}

// bold are the actions that an old record could make harmful: a second target beside one that serves, or the end of it.
var bold = []protocol.Action{protocol.ActionTest, protocol.ActionCutover, protocol.ActionRevert, protocol.ActionFinalize}

// RuleOf finds the rule of an action.
func RuleOf(a protocol.Action) (Rule, bool) {
	i := slices.IndexFunc(Rules, func(r Rule) bool { return r.Action == a })
	if i < 0 {
		return Rule{}, false
	}
	return Rules[i], true
}

// Refusal says why an action must not be taken on a server now, with what to do instead; nil when it may. reason is the
// operator's for going on where only prudence says no.
func Refusal(r protocol.Server, action protocol.Action, reason string) *protocol.Problem {
	no := func(code protocol.ProblemCode, message, hint string) *protocol.Problem {
		return &protocol.Problem{Code: code, Server: r.Name, Message: r.Name + ": " + message, Hint: hint}
	}
	rule, ok := RuleOf(action)
	if !ok {
		return no(protocol.ProblemInvalid, fmt.Sprintf("there is no action %q", action), "see rehost server --help")
	}
	if r.Job != "" && !rule.Busy {
		return no(protocol.ProblemConflict, fmt.Sprintf("job %s works on it", r.Job), "wait for it: rehost job show "+r.Job+" --follow; or end it: rehost job cancel "+r.Job)
	}
	if !r.Restored.IsZero() && slices.Contains(bold, action) {
		return no(protocol.ProblemConflict, "its record comes from a backup of "+r.Restored.UTC().Format(time.DateTime)+" UTC, and its agent has not shown that it still holds",
			"see why: rehost status "+r.Name+"; then: rehost server confirm "+r.Name)
	}
	forced := slices.Contains(rule.Forced, r.Lifecycle)
	if !forced && !slices.Contains(rule.In, r.Lifecycle) {
		message, hint := elsewhere(r, action)
		return no(protocol.ProblemNotAllowed, message, hint)
	}
	if forced && reason == "" {
		if action == protocol.ActionReady {
			return no(protocol.ProblemNotAllowed, "no test of it has passed", "test it: rehost server test "+r.Name+"; or say what shows that it is ready with --reason")
		}
		return no(protocol.ProblemNotAllowed, "no test of it has passed", "test it first: rehost server test "+r.Name+"; or give a reason with --force")
	}
	if rule.unmet != nil {
		if message, hint := rule.unmet(r); message != "" {
			return no(protocol.ProblemNotAllowed, message, hint)
		}
	}
	return nil
}

// elsewhere says why a server's state is the wrong one for an action, and what leads on from it.
func elsewhere(r protocol.Server, action protocol.Action) (message, hint string) {
	switch r.Lifecycle {
	case protocol.NotReady:
		if !r.Stopped.IsZero() {
			return "its replication is stopped", "start it: rehost server start " + r.Name
		}
		return "its initial sync is not complete", "wait for it: rehost server wait " + r.Name + " --state READY_FOR_TEST"
	case protocol.CuttingOver:
		if action == protocol.ActionCutover {
			return "its target is launched already", "finalize it, or go back: rehost server finalize, rehost server revert " + r.Name
		}
		return "it is CUTTING_OVER", "finalize it, or go back: rehost server finalize, rehost server revert " + r.Name
	case protocol.Cutover:
		return "its migration is complete", "nothing is left to do; rehost server archive " + r.Name + " takes it out of the status"
	case protocol.Disconnected:
		return "it is DISCONNECTED", "enrol its agent again and run: rehost server start " + r.Name
	case protocol.ReadyForCutover:
		return "it is READY_FOR_CUTOVER", "go back with: rehost server revert " + r.Name
	case protocol.ReadyForTest, protocol.Testing:
	}
	return fmt.Sprintf("it is %s", r.Lifecycle), "see what is next: rehost status " + r.Name
}

func unmetStart(r protocol.Server) (message, hint string) {
	if r.Stopped.IsZero() && r.Disconnect.IsZero() {
		return "its replication was not stopped", "see what it waits for: rehost status " + r.Name
	}
	if r.Generation != "" {
		return "what it left behind is still being removed", "wait a moment: rehost status " + r.Name
	}
	return "", ""
}

func unmetRetry(r protocol.Server) (message, hint string) {
	if slices.ContainsFunc(r.Initiation, func(i protocol.Initiation) bool { return i.Status == protocol.StepFailed }) {
		return "", ""
	}
	return "nothing of its replication has failed", "see what it waits for: rehost status " + r.Name
}

func unmetPause(r protocol.Server) (message, hint string) {
	switch r.Wanted {
	case protocol.WantReplicate:
		return "", ""
	case protocol.WantPause:
		return "it is paused already", "resume it: rehost server resume " + r.Name
	case protocol.WantNothing, protocol.WantStop, protocol.WantDisconnect:
	}
	return "it does not replicate now", "see what it waits for: rehost status " + r.Name
}

func unmetResume(r protocol.Server) (message, hint string) {
	if r.Wanted == protocol.WantPause {
		return "", ""
	}
	return "it is not paused", "see what it waits for: rehost status " + r.Name
}

func unmetStop(r protocol.Server) (message, hint string) {
	if r.Stopped.IsZero() {
		return "", ""
	}
	return "its replication is stopped already", "start it: rehost server start " + r.Name
}

func unmetLaunch(r protocol.Server) (message, hint string) {
	if r.Wanted == protocol.WantPause {
		return "its replication is paused, and a point needs it", "resume it: rehost server resume " + r.Name
	}
	return "", ""
}

func unmetFinalize(r protocol.Server) (message, hint string) {
	if r.Cutover == nil {
		return "it has no launched target", "run the cutover first: rehost server cutover " + r.Name
	}
	return "", ""
}

func unmetTerminate(r protocol.Server) (message, hint string) {
	if r.Test == nil {
		return "it has no test instance", "nothing is to be done"
	}
	return "", ""
}

func unmetArchive(r protocol.Server) (message, hint string) {
	if r.Archived.IsZero() {
		return "", ""
	}
	return "it is archived already", "show it with: rehost status --archived"
}

func unmetConfirm(r protocol.Server) (message, hint string) {
	if !r.Restored.IsZero() {
		return "", ""
	}
	return "its record is not in doubt", "nothing is to be done"
}

func unmetUnarchive(r protocol.Server) (message, hint string) {
	if r.Archived.IsZero() {
		return "it is not archived", "nothing is to be done"
	}
	return "", ""
}
