package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/store"
	"rehost/protocol"
)

// firm are the kinds of jobs that take back what there is: half of that is worse than all of it, so a server that was begun is
// taken to the end. The others are cut off, and what they made is removed.
var firm = []protocol.JobKind{protocol.JobFinalize, protocol.JobTerminate, protocol.JobRevert}

// errCancelled ends the running steps of a job.
var errCancelled = errors.New("the job was cancelled")

// Cancel records that a job is to end, and cuts off its running steps. Each step finds its own leftovers, so one that is cut off is
// as one that a restart cut off; what follows removes what was made, and lets the source's writers go on.
func (r *Runner) Cancel(ctx context.Context, req protocol.CancelRequest) (protocol.Job, error) {
	job, err := r.store.Jobs.Update(ctx, req.ID, func(j *protocol.Job) error {
		if j.Status.Ended() {
			return &protocol.Problem{
				Code: protocol.ProblemConflict, Message: fmt.Sprintf("job %s is over: it is %s", j.ID, j.Status), Hint: "look at what it did: rehost job show " + j.ID,
			}
		}
		if j.Cancel == nil {
			j.Cancel = &protocol.Cancellation{At: time.Now(), Reason: req.Reason}
			j.Log = append(j.Log, protocol.JobEvent{At: j.Cancel.At, Event: protocol.EventJobCancel, Detail: req.Reason})
			for _, a := range j.Applications {
				giveUp(j, a.Servers[0], strings.TrimSuffix("the job was cancelled: "+req.Reason, ": "))
			}
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return job, &protocol.Problem{Code: protocol.ProblemUnknown, Message: fmt.Sprintf("no job %q", req.ID), Hint: "rehost job list shows them"}
	}
	if err != nil {
		return job, err
	}
	r.cut(job.ID)
	return job, nil
}

// cut ends the context of a job that runs here; another one sees the record when it is taken up.
func (r *Runner) cut(job string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel, ok := r.cancels[job]; ok {
		cancel(errCancelled)
	}
}

// cuttable says whether a cancelled job ends the step: not what only cleans up, and nothing of a firm job.
func (w *Work) cuttable(s step) bool { return s.when == onSuccess && !slices.Contains(firm, w.kind) }

// cutOff says whether the step is over because the job was cancelled, or the application rolled back.
func (w *Work) cutOff(s step) bool {
	return w.cuttable(s) && errors.Is(context.Cause(w.cancelled), errCancelled)
}
