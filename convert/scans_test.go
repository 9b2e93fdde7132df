package convert

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rehost/protocol"
)

// An image that has not changed is not read again, also by another process, and the plan is the same.
func TestAnInitramfsIsReadOncePerChange(t *testing.T) {
	dir := t.TempDir()
	debian(t).write(t, dir)
	image := filepath.Join(dir, "boot/initrd.img-"+testKernel)
	look := func(scans Scans) Plan {
		t.Helper()
		root, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = root.Close() }()
		facts, err := InspectAgain(root, testDisks, scans)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := MakePlan(facts, protocol.ConversionSettings{})
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	scans := Scans{}
	first := look(scans)
	text, err := json.Marshal(scans)
	if err != nil {
		t.Fatal(err)
	}
	later := Scans{}
	if err := json.Unmarshal(text, &later); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, look(later), cmpopts.IgnoreUnexported(Edit{})); diff != "" {
		t.Error(diff)
	}
	// Proof that it was not read: what is remembered is believed.
	known := later["/boot/initrd.img-"+testKernel]
	known.Initrd.Has["nvme"], known.Initrd.Has["ena"] = true, true
	if plan := look(later); len(plan.Edits) == len(first.Edits) && cmp.Equal(plan.Edits, first.Edits, cmpopts.IgnoreUnexported(Edit{})) {
		t.Error("the image was read again")
	}
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(image, now, now); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, look(later), cmpopts.IgnoreUnexported(Edit{})); diff != "" {
		t.Errorf("a changed image was not read again: %s", diff)
	}
}
