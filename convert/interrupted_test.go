package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// TestAKilledConversionLeavesNoFilesOfItsOwn stops conversions where a kill is worst: all is written beside its place, and
// nothing is in its place yet. What comes next must find that: another conversion, or an undo.
func TestAKilledConversionLeavesNoFilesOfItsOwn(t *testing.T) {
	dir, root := newGuest(t, managed(t))
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
			dir, root := newGuest(t, managed(t))
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

// managed is a guest with NetworkManager, in whose folder every file counts, whatever its name is.
func managed(tb testing.TB) tree {
	tb.Helper()
	files := debian(tb)
	files["etc/network/interfaces"] = "auto lo\n"
	files["etc/systemd/system/multi-user.target.wants/NetworkManager.service"] = "-> /usr/lib/systemd/system/NetworkManager.service"
	files[keyfileDir[1:]+"/ens3.nmconnection"] = "[connection]\nid=ens3\ntype=ethernet\ninterface-name=ens3\n"
	return files
}

func TestAPlanIsRefusedWhenAFileHasChangedSince(t *testing.T) {
	for _, name := range []string{"boot/initrd.img-" + testKernel, "etc/fstab"} {
		dir, root := newGuest(t, debian(t))
		plan, err := planFor(t, root, protocol.ConversionSettings{})
		must(t, err)
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		must(t, err)
		data[len(data)/2] ^= 1 // as long as it was
		must(t, os.WriteFile(path, data, 0o600))
		before := snapshot(t, dir)
		if _, err := Apply(root, plan); err == nil || !strings.Contains(err.Error(), "/"+name+": it changed since the plan was made") {
			t.Errorf("%s: got %v", name, err)
		}
		if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
			t.Errorf("%s: (-before +after):\n%s", name, d)
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
