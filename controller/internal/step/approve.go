package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/store"
	"rehost/controller/internal/wave"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// maxReason bounds what somebody writes about an approval.
const maxReason = 1 << 10

// evidence is what is known of a wave for its gates, beside its servers and what programs and pages say.
func (r *Runner) evidence(applied protocol.Fleet, name, asker string) (wave.Evidence, error) {
	e := wave.Evidence{Wave: name, Asker: asker}
	var err error
	if e.Of, err = wave.Approved(applied, name); err != nil {
		return e, &protocol.Problem{Code: protocol.ProblemUnknown, Message: err.Error(), Hint: hint.Of(err)}
	}
	if e.Approvals, err = r.store.Approvals.List(name + "."); err != nil {
		return e, err
	}
	slices.SortStableFunc(e.Approvals, func(a, b protocol.Approval) int { return a.At.Compare(b.At) })
	jobs, err := r.store.Jobs.List("")
	if err != nil {
		return e, err
	}
	e.Rehearsal = wave.NewestRehearsal(jobs, name)
	e.Holders, err = r.holders()
	return e, err
}

// holders are the people who have each role.
func (r *Runner) holders() (map[string][]string, error) {
	all, err := r.store.Operators.List("")
	out := map[string][]string{}
	for _, o := range all { // in the order of their names
		for _, role := range o.Roles {
			out[role] = append(out[role], o.Name)
		}
	}
	return out, err
}

// Approvals lists the approvals of a wave.
func (r *Runner) Approvals(ctx context.Context, req protocol.ApprovalsRequest) (protocol.Approvals, error) {
	applied := r.store.Applied()
	e, err := r.evidence(applied, req.Wave, bus.Sender(ctx))
	if err != nil {
		return protocol.Approvals{}, err
	}
	now := time.Now()
	gates := wave.Settings(applied, req.Wave).Gates
	out := protocol.Approvals{Wave: req.Wave, Approvals: []protocol.Approval{}, Gates: wave.Judge(protocol.GateSettings{Approvals: gates.Approvals}, nil, e, 0, now)}
	for _, a := range e.Approvals {
		a.Void = e.Void(a, gates, now)
		out.Approvals = append(out.Approvals, a)
	}
	return out, nil
}

// Approve records that who asks approves a wave in a role, or does no longer.
func (r *Runner) Approve(ctx context.Context, req protocol.ApproveRequest) (protocol.Approval, error) {
	r.starting.Lock() // a cutover is judged before or after it
	defer r.starting.Unlock()
	who, why := bus.Sender(ctx), strings.TrimSpace(bus.Reason(ctx))
	applied := r.store.Applied()
	e, err := r.evidence(applied, req.Wave, "")
	if err != nil {
		return protocol.Approval{}, err
	}
	if why == "" || len(why) > maxReason {
		return protocol.Approval{}, &protocol.Problem{
			Code: protocol.ProblemInvalid, Message: fmt.Sprintf("an approval has a reason, of at most %d bytes, and so has its withdrawal", maxReason), Hint: "say why, or name the ticket, with --reason",
		}
	}
	a := protocol.Approval{Wave: req.Wave, Role: req.Role, Operator: who, At: time.Now(), Reason: why, Of: e.Of}
	if req.Withdraw {
		return r.withdraw(ctx, a)
	}
	if p := mayApprove(e, wave.Settings(applied, req.Wave).Gates, a); p != nil {
		return protocol.Approval{}, p
	}
	return a, r.store.Approvals.Put(ctx, store.ApprovalKey(a), a)
}

// withdraw takes an approval back. A cutover that has been started goes on: it was judged then.
func (r *Runner) withdraw(ctx context.Context, a protocol.Approval) (protocol.Approval, error) {
	none := &protocol.Problem{
		Code: protocol.ProblemNotAllowed, Message: fmt.Sprintf("%s has not approved wave %s as %s", a.Operator, a.Wave, a.Role),
		Hint: "look at what there is: rehost wave approvals " + a.Wave,
	}
	out, err := r.store.Approvals.Update(ctx, store.ApprovalKey(a), func(old *protocol.Approval) error {
		if !old.Withdrawn.IsZero() {
			return none
		}
		old.Withdrawn, old.Why = a.At, a.Reason
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		return out, none
	}
	return out, err
}

// mayApprove says why somebody must not approve, or nil.
func mayApprove(e wave.Evidence, s protocol.GateSettings, a protocol.Approval) *protocol.Problem {
	var roles []string
	for _, want := range s.Approvals {
		roles = append(roles, want.Role)
	}
	i := slices.Index(roles, a.Role)
	switch {
	case len(roles) == 0:
		return &protocol.Problem{Code: protocol.ProblemNotAllowed, Message: "wave " + a.Wave + " asks for no approval", Hint: "write an approval block into its gates, and run rehost apply"}
	case i < 0:
		return &protocol.Problem{
			Code: protocol.ProblemUnknown, Message: fmt.Sprintf("wave %s asks for no approval by a %s", a.Wave, a.Role), Hint: "it asks for: " + strings.Join(roles, ", "),
		}
	case !slices.Contains(e.Holders[a.Role], a.Operator):
		return &protocol.Problem{
			Code: protocol.ProblemNotAllowed, Message: fmt.Sprintf("%s is no %s", a.Operator, a.Role),
			Hint: fmt.Sprintf("let one approve who is (%s); roles are given on the controller's machine: rehost admin operator NAME --role %s", cmp.Or(strings.Join(e.Holders[a.Role], ", "), "nobody yet"), a.Role),
		}
	case !s.Approvals[i].FourEyes:
		return nil
	}
	for _, other := range e.Approvals {
		k := slices.Index(roles, other.Role)
		if other.Operator == a.Operator && other.Role != a.Role && k >= 0 && s.Approvals[k].FourEyes && e.Void(other, s, a.At) == "" {
			return &protocol.Problem{
				Code: protocol.ProblemNotAllowed, Message: fmt.Sprintf("%s has approved wave %s as %s, and four eyes are wanted", a.Operator, a.Wave, other.Role),
				Hint: fmt.Sprintf("let another %s approve it, or take that one back with rehost wave approve %s --role %s --withdraw --reason TEXT", a.Role, a.Wave, other.Role),
			}
		}
	}
	return nil
}
