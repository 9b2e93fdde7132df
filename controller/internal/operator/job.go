package operator

import (
	"context"
	"errors"
	"slices"

	"rehost/controller/internal/store"
	"rehost/protocol"
)

// Job returns one job; without an id the newest.
func (d *Desk) Job(_ context.Context, req protocol.JobRequest) (protocol.Job, error) {
	if req.ID != "" {
		job, err := d.store.Jobs.Get(req.ID)
		if errors.Is(err, store.ErrNotFound) {
			err = &protocol.Problem{Code: protocol.ProblemUnknown, Message: "no job " + req.ID, Hint: "rehost job list shows them"}
		}
		return job, err
	}
	newest, err := d.newest(protocol.JobsRequest{Limit: 1})
	if err == nil && len(newest) == 0 {
		err = &protocol.Problem{Code: protocol.ProblemUnknown, Message: "there are no jobs yet", Hint: "start one: rehost server test NAME"}
	}
	if err != nil {
		return protocol.Job{}, err
	}
	return newest[0], nil
}

// Jobs lists jobs without their logs, their runbooks and what their conversions changed.
func (d *Desk) Jobs(_ context.Context, req protocol.JobsRequest) ([]protocol.Job, error) {
	jobs, err := d.newest(req)
	for i := range jobs {
		jobs[i].Log, jobs[i].Runbook = nil, nil
		if r := jobs[i].Rehearsal; r != nil {
			jobs[i].Rehearsal = &protocol.Rehearsal{Keep: r.Keep}
		}
		jobs[i].Servers = slices.Clone(jobs[i].Servers) // shared with other readers
		for k := range jobs[i].Servers {
			jobs[i].Servers[k].Changes = nil
		}
	}
	return jobs, err
}

// newest lists the jobs that a request asks for.
func (d *Desk) newest(req protocol.JobsRequest) ([]protocol.Job, error) {
	jobs, err := d.store.Jobs.List("")
	if err != nil {
		return nil, err
	}
	if req.Server == "" {
		jobs = slices.DeleteFunc(jobs, func(j protocol.Job) bool { return j.Ready })
	} else {
		jobs = slices.DeleteFunc(jobs, func(j protocol.Job) bool {
			return !slices.ContainsFunc(j.Servers, func(s protocol.JobServer) bool { return s.Server == req.Server })
		})
	}
	slices.SortFunc(jobs, func(a, b protocol.Job) int { return b.Created.Compare(a.Created) })
	if req.Limit > 0 && len(jobs) > req.Limit {
		jobs = jobs[:req.Limit]
	}
	return jobs, nil
}
