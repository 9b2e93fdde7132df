package controller

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/protocol"
)

// person asks the controller under a name.
type person struct {
	w    *world
	name string
	nc   *nats.Conn
}

func (w *world) person(name string) person {
	return person{w, name, bustest.Connect(w.t, w.bus, protocol.RoleOperator, name)}
}

// as asks as a person, with a reason.
func as[Req, Reply any](p person, reason string, verb protocol.Verb, req Req) (Reply, error) {
	p.w.t.Helper()
	ctx, cancel := context.WithTimeout(bus.WithReason(p.w.t.Context(), reason), 30*time.Second)
	defer cancel()
	return bus.Request[Req, Reply](ctx, p.nc, protocol.OperatorSubject(verb, p.name), req)
}

func (p person) approve(role, reason string) error {
	p.w.t.Helper()
	_, err := as[protocol.ApproveRequest, protocol.Approval](p, reason, protocol.VerbApprove, protocol.ApproveRequest{Wave: "one", Role: role})
	return err
}

func (p person) withdraw(role, reason string) error {
	p.w.t.Helper()
	_, err := as[protocol.ApproveRequest, protocol.Approval](p, reason, protocol.VerbApprove, protocol.ApproveRequest{Wave: "one", Role: role, Withdraw: true})
	return err
}

func (p person) must(err error) {
	p.w.t.Helper()
	if err != nil {
		p.w.t.Fatalf("%s: %v", p.name, err)
	}
}

// cutover asks for the cutover of the wave.
func (p person) cutover() (protocol.Job, error) {
	p.w.t.Helper()
	return as[protocol.StartRequest, protocol.Job](p, "", protocol.VerbStart, protocol.StartRequest{Selection: protocol.Selection{Wave: "one"}, Kind: protocol.JobCutover})
}

// closed are the gates of the wave that are closed for a person, each with its reason.
func (p person) closed() []string {
	p.w.t.Helper()
	book, err := as[protocol.RunbookRequest, protocol.Runbook](p, "", protocol.VerbRunbook, protocol.RunbookRequest{Wave: "one"})
	p.must(err)
	out := []string{}
	for _, g := range book.Gates {
		if !g.Open {
			if out = append(out, g.Name+": "+g.Why); g.Hint == "" {
				p.w.t.Errorf("gate %s does not say what to do", g.Name)
			}
		}
	}
	return out
}

// grant gives roles as who administers the controller's machine does.
func (w *world) grant(name string, roles ...string) {
	w.t.Helper()
	nc := bustest.Connect(w.t, w.bus, protocol.RoleController, "root")
	if _, err := bus.Request[protocol.GrantRequest, protocol.Operator](w.t.Context(), nc, protocol.GrantSubject("root"), protocol.GrantRequest{Name: name, Roles: roles}); err != nil {
		w.t.Fatal(err)
	}
}

func wantRefused(t *testing.T, what string, err error, want string) {
	t.Helper()
	if !isProblem(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %s", what, err, want)
	}
}

func (w *world) gatedFleet(gates protocol.GateSettings) protocol.Fleet {
	f := w.fleet()
	f.Waves[0].Gates = gates
	return f
}

// warnings applies a configuration and returns what it warns of.
func (w *world) warnings(f protocol.Fleet) string {
	w.t.Helper()
	plan, err := ask[protocol.ApplyRequest, protocol.Plan](w, protocol.VerbApply, protocol.ApplyRequest{Fleet: f})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(plan.Warnings, "\n")
}

// TestAWaveIsCutOverWhenOtherPeopleApproveIt walks what people get wrong on the way to two approvals with four eyes.
func TestAWaveIsCutOverWhenOtherPeopleApproveIt(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	ada, ben, starter := w.person("ada"), w.person("ben"), person{w, "test", w.operator}
	const manager, security = "change-manager", "security"
	f := w.gatedFleet(protocol.GateSettings{Approvals: []protocol.ApprovalSettings{{Role: manager, Count: 1, FourEyes: true}, {Role: security, Count: 1, FourEyes: true}}})
	if got, want := w.warnings(f), "wave one cannot be cut over: it needs 1 approval of role change-manager, and 0 have it"; !strings.Contains(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	wantRefused(t, "an approval without the role", ada.approve(manager, "fine"), "ada is no change-manager")
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if msg, err := ada.nc.RequestWithContext(ctx, protocol.GrantSubject("ada"), []byte(`{"name":"ada","roles":["change-manager"]}`)); err == nil {
		t.Errorf("an operator gave herself a role: %s", msg.Data)
	}
	w.grant("ada", manager, security)
	if got := w.warnings(f); !strings.Contains(got, "it needs 2 approvals with four eyes, and 1 have the roles") {
		t.Errorf("warnings %q", got)
	}
	w.grant("ben", security)
	w.grant("test", manager)
	if got := w.warnings(f); strings.Contains(got, "cannot be cut over") {
		t.Errorf("warnings %q", got)
	}
	wantRefused(t, "an approval without a reason", ada.approve(manager, " "), "an approval has a reason")
	wantRefused(t, "another role", ada.approve("boss", "fine"), "wave one asks for no approval by a boss")
	wantRefused(t, "a withdrawal of nothing", ada.withdraw(manager, "no"), "ada has not approved wave one as change-manager")
	starter.must(starter.approve(manager, "I want it"))
	_, err := starter.cutover()
	wantRefused(t, "who starts approves", err, "approval change-manager (0 of 1 approvals; that of test does not count, who would start the cutover too); approval security (0 of 1 approvals)")
	ada.must(ada.approve(manager, "CHG-4711"))
	wantRefused(t, "two roles", ada.approve(security, "CHG-4711"), "ada has approved wave one as change-manager, and four eyes are wanted")
	ben.must(ben.approve(security, "looked at"))
	if diff := cmp.Diff([]string{}, starter.closed()); diff != "" {
		t.Errorf("closed gates: %s", diff)
	}
	f.Launches[0].InstanceType = "t3.large"
	w.apply(f)
	void := []string{"approval change-manager: 0 of 1 approvals; that of test is void (changed since: launch web); that of ada is void (changed since: launch web)", "approval security: 0 of 1 approvals; that of ben is void (changed since: launch web)"}
	if diff := cmp.Diff(void, starter.closed()); diff != "" {
		t.Errorf("closed gates of a wave that was changed: %s", diff)
	}
	ada.must(ada.approve(manager, "CHG-4711, again"))
	ben.must(ben.approve(security, "looked at again"))
	ben.must(ben.withdraw(security, "not yet"))
	_, err = starter.cutover()
	wantRefused(t, "a withdrawn approval", err, "approval security (0 of 1 approvals; that of ben is void (withdrawn: not yet))")
	wantRefused(t, "a second withdrawal", ben.withdraw(security, "no"), "ben has not approved")
	ben.must(ben.approve(security, "now"))
	w.grant("ben")
	if got := strings.Join(starter.closed(), "|"); got != "approval security: 0 of 1 approvals; that of ben is void (ben does not have the role any more)" {
		t.Errorf("without the role: %s", got)
	}
	w.grant("ben", security)
	all, err := as[protocol.ApprovalsRequest, protocol.Approvals](starter, "", protocol.VerbApprovals, protocol.ApprovalsRequest{Wave: "one"})
	starter.must(err)
	if len(all.Approvals) != 3 || all.Approvals[0].Operator != "test" || all.Approvals[0].Void == "" || all.Approvals[2].Void != "" || len(all.Gates) != 2 || !all.Gates[1].Open {
		t.Errorf("approvals %+v", all)
	}
	job, err := starter.cutover()
	starter.must(err)
	wantSucceeded(t, w.awaitJob(job.ID))
	w.wantApprovalsInTheLog()
}

// wantApprovalsInTheLog looks for who approved what, and who gave the roles, in the audit log.
func (w *world) wantApprovalsInTheLog() {
	w.t.Helper()
	var done []string
	for _, e := range w.auditLog(protocol.AuditRequest{}) {
		if e.Verb == "approve" && e.Result == protocol.AuditDone || e.Verb == "grant" {
			done = append(done, e.Operator+" "+e.Verb+": "+e.Reason)
		}
	}
	want := []string{
		"root grant: ", "root grant: ", "root grant: ", "test approve: I want it", "ada approve: CHG-4711", "ben approve: looked at", "ada approve: CHG-4711, again",
		"ben approve: looked at again", "ben approve: not yet", "ben approve: now", "root grant: ", "root grant: ",
	}
	if diff := cmp.Diff(want, done); diff != "" {
		w.t.Errorf("the audit log (-want +got):\n%s", diff)
	}
}
