// Package step runs jobs: tests, cutovers, reverts, finalizations and terminations of servers.
// It owns the steps, their order, and how they are repeated. A step is recorded before and
// after; each finds its own leftovers by tag or client token before it creates anything, so a
// job that was cut off at any line is taken up again and makes nothing twice. It does not
// decide when a job should run, and never touches the replica.
package step

import (
	"context"
	"errors"
	"slices"
	"time"

	"rehost/protocol"
)

// When a step runs.
type when int

const (
	onSuccess when = iota // while nothing has failed
	onFailure             // only after a failure
	always
)

// step is one piece of a server's way through a job.
type step struct {
	name     string
	attempts int                       // runs at most; a run that was cut off by a restart does not count
	deadline time.Duration             // of one run
	longer   func(*Work) time.Duration // what comes on top of it; nil: nothing
	when     when
	// awaits returns when the other servers of the application are so far that the step may begin; nil: it waits for none.
	awaits func(ctx context.Context, w *Work) error
	light  bool                  // in a cutover it takes no room from those that are worked on
	last   bool                  // it runs when all servers of the job have done the others
	start  protocol.JobEventName // events for the job's log; empty: none
	end    protocol.JobEventName
	fail   protocol.JobEventName
	run    func(ctx context.Context, w *Work) error
}

// Names of steps that other ones wait for, or that work with an instance.
const (
	stepNameKeep = "keep"
)

// The steps. Deadlines are for a real cloud, where a first snapshot may take hours.
var (
	stepFence = step{
		name: protocol.JobStepFence, attempts: 1, longer: fenceTime, awaits: allBegun, light: true, run: fence, start: protocol.EventFenceStart, end: protocol.EventFenceEnd,
	}
	stepPoint = step{
		name: protocol.JobStepPoint, attempts: 5, deadline: 20 * time.Minute, awaits: past(protocol.JobStepFence), light: true, run: takePoint,
		start: protocol.EventSnapshotStart, fail: protocol.EventSnapshotFail,
	}
	stepSnap  = step{name: "snapshot", attempts: 1, deadline: 12 * time.Hour, run: awaitSnapshots, end: protocol.EventSnapshotEnd, fail: protocol.EventSnapshotFail}
	stepClone = step{name: "clone", attempts: 5, deadline: 30 * time.Minute, run: makeClones, fail: protocol.EventConversionFail}
	stepConv  = step{
		name: protocol.JobStepConvert, attempts: 2, deadline: 20 * time.Minute, longer: scriptTime, run: convert,
		start: protocol.EventConversionStart, end: protocol.EventConversionEnd, fail: protocol.EventConversionFail,
	}
	stepImage  = step{name: "image", attempts: 5, deadline: 4 * time.Hour, run: makeImage, fail: protocol.EventLaunchFailed}
	stepRetire = step{name: "retire", attempts: 5, deadline: 20 * time.Minute, run: retirePrevious, fail: protocol.EventCleanupFail}
	stepLaunch = step{
		name: protocol.JobStepLaunch, attempts: 3, deadline: 20 * time.Minute, awaits: launchedBefore, run: launch,
		start: protocol.EventLaunchStart, end: protocol.EventLaunchEnd, fail: protocol.EventLaunchFailed,
	}
	stepActions = step{
		name: protocol.JobStepActions, attempts: 5, deadline: time.Minute, longer: actionTime, run: runActions, fail: protocol.EventActionFail,
	}
	stepCheck = step{
		name: protocol.JobStepCheck, attempts: 1, deadline: time.Minute, longer: checkTime, run: check,
		start: protocol.EventCheckStart, end: protocol.EventCheckEnd, fail: protocol.EventCheckFail,
	}
	stepBoot = step{
		name: protocol.JobStepBoot, attempts: 1, deadline: bootTime + time.Minute, run: boot,
		start: protocol.EventCheckStart, end: protocol.EventCheckEnd, fail: protocol.EventCheckFail,
	}
	stepKeep    = step{name: stepNameKeep, attempts: 1, longer: fenceTime, awaits: past(protocol.JobStepCheck), light: true, run: keep}
	stepCommit  = step{name: "commit", attempts: 10, deadline: time.Minute, awaits: past(stepNameKeep), light: true, run: commit}
	stepUnfence = step{name: protocol.JobStepUnfence, attempts: 5, longer: fenceTime, when: onFailure, light: true, run: unfence, end: protocol.EventSourceReleased}
	stepCleanup = step{
		name: "cleanup", attempts: 5, deadline: 20 * time.Minute, when: always, run: cleanup,
		start: protocol.EventCleanupStart, end: protocol.EventCleanupEnd, fail: protocol.EventCleanupFail,
	}
	stepDisconnect = step{name: "disconnect", attempts: 5, deadline: 5 * time.Minute, run: disconnect}
	stepRelease    = step{name: "release", attempts: 5, deadline: 5 * time.Minute, run: release}
	stepRemove     = step{
		name: "remove", attempts: 5, deadline: 20 * time.Minute, run: removeReplica,
		start: protocol.EventCleanupStart, end: protocol.EventCleanupEnd, fail: protocol.EventCleanupFail,
	}
	stepIdle     = step{name: "replicaserver", attempts: 5, deadline: 20 * time.Minute, run: awaitIdle, fail: protocol.EventCleanupFail}
	stepFinalize = step{name: "finalize", attempts: 5, deadline: time.Minute, run: finalize}
	// A target that goes on while the source's writers do would be a second server of its name.
	stepWithdraw = step{
		name: "withdraw", attempts: 5, deadline: 20 * time.Minute, run: withdraw,
		start: protocol.EventCleanupStart, end: protocol.EventCleanupEnd, fail: protocol.EventCleanupFail,
	}
	stepResume    = step{name: protocol.JobStepUnfence, attempts: 5, longer: fenceTime, run: unfence, end: protocol.EventSourceReleased}
	stepUntest    = step{name: "untest", attempts: 5, deadline: time.Minute, run: untest}
	stepTerminate = step{
		name: protocol.JobStepTerminate, attempts: 5, deadline: 20 * time.Minute, run: terminate,
		start: protocol.EventCleanupStart, end: protocol.EventCleanupEnd, fail: protocol.EventCleanupFail,
	}
	stepDismiss = step{
		name: protocol.JobStepTerminate, attempts: 5, deadline: 20 * time.Minute, when: always, last: true, run: dismiss,
		start: protocol.EventCleanupStart, end: protocol.EventCleanupEnd, fail: protocol.EventCleanupFail,
	}
)

// plans are the steps of each kind of job, in order.
var plans = map[protocol.JobKind][]step{
	protocol.JobTest:      {stepPoint, stepSnap, stepClone, stepConv, stepImage, stepRetire, stepLaunch, stepActions, stepCheck, stepCleanup},
	protocol.JobCutover:   {stepFence, stepPoint, stepSnap, stepClone, stepConv, stepImage, stepRetire, stepLaunch, stepActions, stepCheck, stepKeep, stepCommit, stepUnfence, stepCleanup},
	protocol.JobFinalize:  {stepDisconnect, stepRelease, stepRemove, stepIdle, stepFinalize},
	protocol.JobRevert:    {stepWithdraw, stepResume, stepUntest},
	protocol.JobTerminate: {stepTerminate},
}

// readySteps find out whether a copy boots.
var readySteps = []step{stepPoint, stepSnap, stepClone, stepConv, stepImage, stepLaunch, stepBoot, stepCleanup}

// stepsOf are the steps of a job, in order. Those of a rehearsal are a test's, with one point for an application.
func stepsOf(j protocol.Job) []step {
	switch {
	case j.Ready:
		return readySteps
	case j.Rehearsal == nil:
		return plans[j.Kind]
	}
	out := slices.Clone(plans[j.Kind])
	for i := range out {
		if out[i].name == protocol.JobStepPoint {
			out[i].awaits = allBegun
		}
	}
	return append(out, stepDismiss)
}

// recorded are the steps of a job's server, as its record has them: a job of an earlier version goes on without those that are new.
func recorded(job protocol.Job, server string) []step {
	i := slices.IndexFunc(job.Servers, func(s protocol.JobServer) bool { return s.Server == server })
	return slices.DeleteFunc(slices.Clone(stepsOf(job)), func(st step) bool {
		return !slices.ContainsFunc(job.Servers[i].Steps, func(s protocol.JobStep) bool { return s.Name == st.name })
	})
}

// Names of what steps hand on in a job server's data, beside those in [protocol].
const (
	dataSnapshots  = "snapshots" // of all disks, in disk order, separated by commas
	dataTry        = "clone_try"
	dataClones     = "clones"     // in disk order; empty for a disk that the conversion does not get
	dataConversion = "conversion" // instance
	dataConverted  = "converted"
	dataBootMode   = "boot_mode"
	dataWritten    = "written"   // the clones that the conversion wrote to
	dataReleasing  = "releasing" // the source's writers were ordered to go on
	dataWithdrawn  = "withdrawn" // the cutover was taken back, and the test stays
	dataHostKey    = "host_key"  // that the instance showed at the first login
	dataStopped    = "stopped"   // the instance was launched and stopped, as its launch block wants it
)

// skip is what a step returns when there is nothing for it to do.
type skip struct{ reason string }

func (s *skip) Error() string { return s.reason }

// final wraps an error that another run would meet again.
type final struct{ err error }

func (f *final) Error() string { return f.err.Error() }
func (f *final) Unwrap() error { return f.err }

func isFinal(err error) bool {
	_, ok := errors.AsType[*final](err)
	return ok
}
