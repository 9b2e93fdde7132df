package agent

import (
	"testing"

	"rehost/agent/internal/track"
	"rehost/internal/hint"
)

func TestMarksAreProvenWhenTheyCanBeCompared(t *testing.T) {
	fake, err := track.NewFake([]track.Disk{{Path: "/dev/a", Major: 1, SizeBytes: 1 << 20}, {Path: "/dev/b", Major: 2, SizeBytes: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	m := marks{fake}
	if err := m.Prove(t.Context()); err != nil {
		t.Errorf("without a fault: %v", err)
	}
	// The count never falls; what was sent again since is for Taint to know.
	fake.SetStatus(func(s *track.Status) { s.Disks[1].MissedSectors = 8 })
	if count, _ := m.Taint(); m.Prove(t.Context()) != nil || count != 8 {
		t.Errorf("with missed sectors: %v, taint %d", m.Prove(t.Context()), count)
	}
	fake.SetStatus(func(s *track.Status) { s.Disks[1].Problem = "I/O statistics are switched off" })
	if err := m.Prove(t.Context()); err == nil || hint.Of(err) == "" {
		t.Errorf("without counters: got %v, want an error with a hint", err)
	}
}
