package operator

import (
	"context"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/store"
	"rehost/controller/internal/wave"
	"rehost/protocol"
)

// Report says how a job of a wave goes or went.
func (d *Desk) Report(ctx context.Context, req protocol.ReportRequest) (protocol.Report, error) {
	job, err := d.jobOfWave(ctx, req)
	if err != nil {
		return protocol.Report{}, err
	}
	out := wave.Report(req.Wave, job, func(server, id string) *protocol.Point {
		pt, err := d.store.Points.Get(store.PointKey(server, id))
		if err != nil {
			return nil
		}
		return &pt
	}, time.Now())
	if job.Status.Ended() || job.Kind != protocol.JobCutover {
		out.Gates, err = d.runner.Gates(ctx, req.Wave)
	}
	return out, err
}

func (d *Desk) jobOfWave(ctx context.Context, req protocol.ReportRequest) (protocol.Job, error) {
	if req.Job != "" {
		job, err := d.Job(ctx, protocol.JobRequest{ID: req.Job})
		if err == nil && job.Of.Wave != req.Wave {
			err = &protocol.Problem{Code: protocol.ProblemInvalid, Message: fmt.Sprintf("job %s is of %s, not of wave %s", job.ID, job.Of, req.Wave), Hint: "rehost job list shows the jobs"}
		}
		return job, err
	}
	jobs, err := d.newest(protocol.JobsRequest{})
	if err != nil {
		return protocol.Job{}, err
	}
	for _, wanted := range []func(protocol.Job) bool{
		func(j protocol.Job) bool { return j.Kind == protocol.JobCutover || j.Rehearsal != nil },
		func(j protocol.Job) bool { return j.Kind == protocol.JobTest },
	} {
		if i := slices.IndexFunc(jobs, func(j protocol.Job) bool { return wanted(j) && j.Of.Wave == req.Wave }); i >= 0 {
			return jobs[i], nil
		}
	}
	p := &protocol.Problem{Code: protocol.ProblemUnknown, Message: fmt.Sprintf("wave %s was neither cut over nor tested", req.Wave), Hint: "see how its cutover would go: rehost wave plan " + req.Wave}
	if _, err := wave.Of(d.store.Applied(), req.Wave); err != nil {
		p.Message, p.Hint = fmt.Sprintf("no job of a wave %q", req.Wave), "rehost wave list shows the waves"
	}
	return protocol.Job{}, p
}
