package controller

import (
	"strings"
	"testing"

	"rehost/internal/cloud"
	"rehost/protocol"
)

func (w *world) setWrites(disk string, rate int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes[disk] = rate
}

func TestStagingVolumesFitSizeAndWrites(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	w.setWrites("/dev/sdb", 5<<20)
	f := w.fleet()
	f.Replications[0].VolumeType, f.Replications[0].Volumes = protocol.VolumeTypeAuto, protocol.VolumeSettings{}
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	r := w.server().Record
	if len(r.Volumes) != 2 || r.Volumes[0].Type != "standard" || r.Volumes[1].Type != "gp3" {
		t.Fatalf("volumes: %+v", r.Volumes)
	}
	volumes, err := w.cloud.Volumes(t.Context(), cloud.Tags{cloud.TagRole: cloud.RoleStagingVolume})
	if err != nil || len(volumes) != 2 || volumes[0].Type != "standard" || volumes[1].Type != "gp3" {
		t.Fatalf("volumes in the cloud: %+v, %v", volumes, err)
	}
	if s := w.server(); len(s.Advice) > 0 {
		t.Errorf("advice at once: %v", s.Advice)
	}
	// The first disk becomes busy: that is told, and nothing is done. Somebody has followed the advice already, as the cloud says.
	w.cloud.mu.Lock()
	w.cloud.volumes[r.Volumes[1].Volume].Type = "io2"
	w.cloud.mu.Unlock()
	w.setWrites("/dev/sda", 20<<20)
	w.setWrites("/dev/sdb", 1<<10)
	w.await("advice", func() bool {
		s := w.server()
		return len(s.Advice) == 1 && strings.Contains(s.Advice[0], "/dev/sda is standard, and 20.0 MiB/s is written there") && s.Record.Volumes[1].Type == "io2"
	})
	if got := w.server().Record.Volumes[0].Type; got != "standard" {
		t.Errorf("the volume became %s by itself", got)
	}
}
