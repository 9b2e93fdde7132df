package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/fleet"
	"rehost/controller/internal/lifecycle"
	"rehost/controller/internal/staging"
	"rehost/controller/internal/store"
	"rehost/controller/internal/wave"
	"rehost/internal/hint"
	"rehost/protocol"
)

// Revoker lets identities in no more, by their public keys and since when.
type Revoker interface {
	Revoke(keys map[string]time.Time) error
}

// Change does to each selected server what takes no job, or says why not. What it leads to is done by those who look at the records.
func (d *Desk) Change(ctx context.Context, req protocol.ChangeRequest) ([]protocol.Changed, error) {
	if _, ok := changes[req.Action]; !ok {
		return nil, &protocol.Problem{Code: protocol.ProblemInvalid, Message: fmt.Sprintf("%q is not done at once", req.Action), Hint: "see rehost server --help"}
	}
	servers, err := d.selected(req.Selection)
	if err != nil {
		return nil, err
	}
	out := make([]protocol.Changed, 0, len(servers))
	for _, name := range servers {
		record, err := d.change(ctx, name, req)
		problem, told := errors.AsType[*protocol.Problem](err)
		if err != nil && !told {
			return out, err
		}
		out = append(out, protocol.Changed{Server: name, Record: record, Problem: problem})
	}
	return out, nil
}

// selected lists the servers of a selection. Single ones need not be in the configuration any more.
func (d *Desk) selected(of protocol.Selection) ([]string, error) {
	if len(of.Servers) > 0 && of.Application == "" && of.Wave == "" {
		return slices.Compact(slices.Sorted(slices.Values(of.Servers))), nil
	}
	plan, err := wave.Select(d.store.Applied(), of)
	if err != nil {
		return nil, &protocol.Problem{Code: protocol.ProblemUnknown, Message: err.Error(), Hint: hint.Of(err)}
	}
	return plan.Servers, nil
}

// changes are what each action makes of a record.
var changes = map[protocol.Action]func(r *protocol.Server, now time.Time){
	protocol.ActionReady:  func(r *protocol.Server, now time.Time) { r.Tested = now },
	protocol.ActionPause:  func(r *protocol.Server, _ time.Time) { r.Wanted = protocol.WantPause },
	protocol.ActionResume: func(r *protocol.Server, _ time.Time) { r.Wanted = protocol.WantReplicate },
	protocol.ActionStop: func(r *protocol.Server, now time.Time) {
		r.Stopped, r.Wanted, r.PointOrder = now, protocol.WantStop, nil
	},
	protocol.ActionStart: func(r *protocol.Server, _ time.Time) {
		r.Stopped, r.Disconnect, r.Archived, r.Wanted = time.Time{}, time.Time{}, time.Time{}, protocol.WantNothing
	},
	protocol.ActionRetry: func(*protocol.Server, time.Time) {},
	protocol.ActionDisconnect: func(r *protocol.Server, now time.Time) {
		r.Disconnect, r.Stopped, r.Wanted, r.PointOrder = now, time.Time{}, protocol.WantDisconnect, nil
	},
	protocol.ActionArchive:   func(r *protocol.Server, now time.Time) { r.Archived = now },
	protocol.ActionUnarchive: func(r *protocol.Server, _ time.Time) { r.Archived = time.Time{} },
	protocol.ActionRevoke:    func(r *protocol.Server, now time.Time) { r.Revoked = now },
	protocol.ActionConfirm: func(r *protocol.Server, _ time.Time) {
		if r.Restored = (time.Time{}); r.Problem != nil && r.Problem.Step == staging.StepRestore {
			r.Problem = nil
		}
	},
}

func (d *Desk) change(ctx context.Context, name string, req protocol.ChangeRequest) (protocol.Server, error) {
	rule, _ := lifecycle.RuleOf(req.Action)
	if job := d.jobOf(name); job != "" && !rule.Busy {
		return protocol.Server{}, &protocol.Problem{
			Code: protocol.ProblemConflict, Server: name, Message: fmt.Sprintf("%s: job %s is not over, and it is in it", name, job), Hint: "wait for it: rehost job show " + job + " --follow; or end it: rehost job cancel " + job,
		}
	}
	if req.Action == protocol.ActionRevoke {
		if p := d.irrevocable(name); p != nil {
			return protocol.Server{}, p
		}
	}
	_, _, _, wanted := fleet.Settings(d.store.Applied(), name)
	record, err := d.store.Servers.Update(ctx, name, func(r *protocol.Server) error {
		if p := lifecycle.Refusal(*r, req.Action, req.Reason); p != nil {
			return p
		}
		now := time.Now()
		changes[req.Action](r, now)
		if req.Action == protocol.ActionConfirm && d.serves(name) {
			r.Fence, r.FenceKeep = false, false // writers that go on are not stopped by what a backup says
		}
		r.Remark = &protocol.Remark{Action: req.Action, Reason: req.Reason, At: now}
		lifecycle.Advance(r, wanted, now)
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return record, unknownServer(name)
	}
	if err == nil && req.Action == protocol.ActionRetry {
		d.staging.Retry(name)
	}
	if err == nil && req.Action == protocol.ActionRevoke {
		err = d.Revoke()
	}
	return record, err
}

// serves says that the source's writers are not stopped, as far as its agent was heard of.
func (d *Desk) serves(server string) bool {
	report, _, known := d.reports.Agent(server)
	return known && !report.Fenced
}

// irrevocable says why there is nothing to revoke for a server.
func (d *Desk) irrevocable(server string) *protocol.Problem {
	if d.revoker == nil {
		return &protocol.Problem{Code: protocol.ProblemNotAllowed, Server: server, Message: "this controller uses a bus that it does not run", Hint: "revoke the identity with the tools of that bus"}
	}
	all, err := d.store.Enrolments.List("")
	if err == nil && slices.ContainsFunc(all, func(e protocol.Enrolment) bool { return e.Role == protocol.RoleAgent && e.Name == server }) {
		return nil
	}
	return &protocol.Problem{Code: protocol.ProblemNotAllowed, Server: server, Message: server + ": its agent has not enrolled", Hint: "nothing is to be done"}
}

// Revoke makes the bus let in no identity that the records revoke. It is called once when the controller starts.
func (d *Desk) Revoke() error {
	if d.revoker == nil {
		return nil
	}
	servers, err := d.store.Servers.List("")
	if err != nil {
		return err
	}
	enrolled, err := d.store.Enrolments.List("")
	if err != nil {
		return err
	}
	keys := map[string]time.Time{}
	for _, r := range servers {
		for _, e := range enrolled {
			if e.Role == protocol.RoleAgent && e.Name == r.Name && e.Used.Before(r.Revoked) {
				keys[e.By] = r.Revoked
			}
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return d.revoker.Revoke(keys)
}
