package cli

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/bus"
	"rehost/internal/bus/bustest"
	"rehost/internal/hint"
	"rehost/protocol"
)

func (f *fake) approve(ctx context.Context, req protocol.ApproveRequest) (protocol.Approval, error) {
	if req.Role != "change-manager" {
		return protocol.Approval{}, hint.New("wave "+req.Wave+" asks for no approval by a "+req.Role, "it asks for: change-manager")
	}
	return protocol.Approval{Wave: req.Wave, Role: req.Role, Operator: bus.Sender(ctx), At: epoch, Reason: bus.Reason(ctx), Of: map[string]string{"wave first": "a", "server web-1": "b"}}, nil
}

func (f *fake) approvals(_ context.Context, req protocol.ApprovalsRequest) (protocol.Approvals, error) {
	return protocol.Approvals{
		Wave: req.Wave,
		Gates: []protocol.Gate{{
			Name: "approval change-manager", Why: "0 of 1 approvals; that of ben is void (changed since: launch web)",
			Hint: "one of ada, ben runs: rehost wave approve first --role change-manager --reason TEXT",
		}},
		Approvals: []protocol.Approval{{Wave: req.Wave, Role: "change-manager", Operator: "ben", At: epoch, Reason: "looked at", Void: "changed since: launch web"}},
	}, nil
}

// TestRolesAreGivenByWhoHoldsTheKeys and by nobody else.
func TestRolesAreGivenByWhoHoldsTheKeys(t *testing.T) {
	data := t.TempDir()
	server := bustest.StartIn(t, filepath.Join(data, "bus"), "127.0.0.1:0")
	if err := bus.SaveContext(filepath.Join(data, "operator.json"), bustest.Context(t, server, protocol.RoleOperator, "local")); err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 3)
	endpoint := bus.Handle("grant", protocol.GrantSubject("*"), func(ctx context.Context, req protocol.GrantRequest) (protocol.Operator, error) {
		asked <- bus.Sender(ctx) + " gives " + req.Name + " " + strings.Join(req.Roles, ",") + " because " + bus.Reason(ctx)
		return protocol.Operator{Name: req.Name, Roles: req.Roles}, nil
	})
	run := func(args ...string) (int, string) {
		env, out, errOut := testEnv("", "")
		code := Main(t.Context(), env, append([]string{"admin", "operator", "ada", "--data-dir", data}, args...))
		return code, out.String() + errOut.String()
	}
	if code, said := run("--role", "boss"); code != exitFailure || !strings.Contains(said, "check that the controller runs") {
		t.Errorf("without a controller: %d, %s", code, said)
	}
	if err := bus.Serve(t.Context(), bustest.Connect(t, server, protocol.RoleController, "main"), hclog.NewNullLogger(), "controller", endpoint); err != nil {
		t.Fatal(err)
	}
	if code, said := run("--role", "boss,guard", "--reason", "CHG-1"); code != exitOK || said != "ada may approve waves as: boss, guard\n" {
		t.Errorf("two roles: %d, %s", code, said)
	}
	if code, said := run("--no-role"); code != exitOK || said != "ada may approve waves as: -\n" {
		t.Errorf("no roles: %d, %s", code, said)
	}
	if got, want := <-asked+"|"+<-asked, whoami()+" gives ada boss,guard because CHG-1|"+whoami()+" gives ada  because "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
