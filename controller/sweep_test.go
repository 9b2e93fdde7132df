package controller

import (
	"testing"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

func TestLeftoversAreListedAndRemoved(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.tested()
	sweep := func(remove ...string) []protocol.Leftover {
		t.Helper()
		found, err := ask[protocol.SweepRequest, []protocol.Leftover](w, protocol.VerbSweep, protocol.SweepRequest{Remove: remove})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	// All that there is was made hours ago.
	old := time.Now().Add(-3 * time.Hour)
	w.cloud.mu.Lock()
	for _, i := range w.cloud.instances {
		i.Launched = old
	}
	lost := &cloud.Volume{ID: w.cloud.id("vol"), Created: old, Tags: cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume, cloud.TagServer: "web-1", cloud.TagGeneration: "before"}}
	fresh := &cloud.Volume{ID: w.cloud.id("vol"), Created: time.Now(), Tags: lost.Tags}
	strange := &cloud.Volume{ID: w.cloud.id("vol"), Created: old, Tags: cloud.Tags{"team": "shop"}}
	for _, v := range []*cloud.Volume{lost, fresh, strange} {
		w.cloud.volumes[v.ID] = v
	}
	n := len(w.cloud.volumes)
	w.cloud.mu.Unlock()

	if found := sweep(); len(found) != 1 || found[0].ID != lost.ID || found[0].Removed {
		t.Fatalf("found %+v, want volume %s", found, lost.ID)
	}
	volume := w.server().Record.Volumes[0].Volume
	if found := sweep(lost.ID, fresh.ID, strange.ID, volume); len(found) != 1 || !found[0].Removed {
		t.Errorf("removed %+v, want volume %s", found, lost.ID)
	}
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	if w.cloud.volumes[lost.ID] != nil || len(w.cloud.volumes) != n-1 {
		t.Errorf("%d volumes are left of %d", len(w.cloud.volumes), n)
	}
}
