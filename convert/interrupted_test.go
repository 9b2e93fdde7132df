package convert

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// TestAKilledConversionLeavesNoFilesOfItsOwn stops conversions where a kill is worst: all is written beside its place, and
// nothing is in its place yet. What comes next must find that: another conversion, or an undo.
func TestAKilledConversionLeavesNoFilesOfItsOwn(t *testing.T) {
	dir, root := newGuest(t, debian(t))
	before := snapshot(t, dir)
	convertTree(t, root)
	want := snapshot(t, dir)
	if err := Undo(root); err != nil {
		t.Fatal(err)
	}
	for name, next := range map[string]func(root *Root) map[string]string{
		"and goes on":   func(root *Root) map[string]string { convertTree(t, root); return want },
		"and is undone": func(root *Root) map[string]string { must(t, Undo(root)); return before },
	} {
		t.Run(name, func(t *testing.T) {
			dir, root := newGuest(t, debian(t))
			for range 2 {
				plan, err := planFor(t, root, protocol.ConversionSettings{})
				must(t, err)
				must(t, keepOriginals(root, plan.Edits))
				var killed transaction
				for _, e := range plan.Edits {
					must(t, killed.add(root, e))
				}
				// Here it is killed, and the disk is mounted anew.
				root, err = Open(dir)
				must(t, err)
				t.Cleanup(func() { _ = root.Close() })
			}
			if d := cmp.Diff(next(root), snapshot(t, dir)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
