package cli

import (
	"bytes"
	"testing"

	"rehost/protocol"
)

func TestScriptsAreToldWithWhatTheySaid(t *testing.T) {
	var p printer
	tellScripts(&p, "  web-1: ", []protocol.ScriptRun{
		{Name: "check", Phase: protocol.ScriptBeforeMount, Outcome: protocol.ScriptPlanned},
		{Name: "fix", Phase: protocol.ScriptAfterConversion, Outcome: protocol.ScriptTimedOut, Code: 137, Seconds: 2.04, Output: "begun\n\x1b[2Jon it"},
	})
	var out bytes.Buffer
	if err := p.flush(&out); err != nil {
		t.Fatal(err)
	}
	want := "  web-1: script check (before-mount): planned\n  web-1: script fix (after-conversion): timed-out, exit code 137, after 2.0 s\n" +
		"  web-1:     begun\n  web-1:     [2Jon it\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestActionsAreToldWithWhatTheySaid(t *testing.T) {
	var p printer
	tellActions(&p, "  web-1: ", []protocol.ActionRun{
		{Name: "join", MustSucceed: true, Outcome: protocol.ScriptFailed, Code: 3, Seconds: 1.25, Output: "no such domain\nbye\x1b"},
		{Name: "warm", Outcome: protocol.ScriptUnknown, Problem: "the connection was lost"},
	})
	want := "  web-1: action join: failed, exit code 3, after 1.2 s\n  web-1:     no such domain\n  web-1:     bye" + oneLine("\x1b") + "\n" +
		"  web-1: action warm: warning, as it need not succeed: unknown: the connection was lost\n"
	var out bytes.Buffer
	if err := p.flush(&out); err != nil || out.String() != want {
		t.Errorf("got %q, want %q, %v", out.String(), want, err)
	}
}
