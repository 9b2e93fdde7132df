package convert

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/hint"
	"rehost/protocol"
)

// Where scripts ran there is no undo, also when the conversion itself had nothing left to change.
func TestNoUndoAfterScripts(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	plan, err := planFor(t, root, protocol.ConversionSettings{})
	if err == nil {
		_, err = Apply(root, plan)
	}
	for range 2 {
		if err == nil {
			err = NoteScripts(root, []string{"fix-app"})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, dir)
	err = Undo(root)
	if err == nil || strings.Count(err.Error(), "fix-app") != 1 || hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
	if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
		t.Errorf("the refused undo changed the guest:\n%s", d)
	}
}

func TestScriptsAndSELinux(t *testing.T) {
	after := protocol.ConversionSettings{Scripts: []protocol.Script{{Name: "fix", Phase: protocol.ScriptAfterConversion}}}
	first := protocol.ConversionSettings{Scripts: []protocol.Script{{Name: "x", Phase: protocol.ScriptFirstBoot}}}
	for name, c := range map[string]struct {
		mode string
		set  protocol.ConversionSettings
		want bool
	}{
		"enforcing":         {"enforcing", after, true},
		"permissive":        {"permissive", after, false},
		"disabled":          {"disabled", after, false},
		"without scripts":   {"enforcing", protocol.ConversionSettings{}, false},
		"of the first boot": {"enforcing", first, false},
	} {
		p := &planner{set: c.set, facts: Facts{Files: map[string]File{}, SELinux: SELinux{Enforcing: c.mode == "enforcing", Relabels: true}}}
		if err := p.relabel(); err != nil || (len(p.edits) == 1 && p.edits[0].Path == autorelabel) != c.want || (len(p.findings) == 1) != c.want {
			t.Errorf("%s: got %+v, %+v, %v", name, p.edits, p.findings, err)
		}
	}
}
