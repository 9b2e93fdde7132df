package controller

import (
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/internal/cloud"
	"rehost/protocol"
)

// attached counts the volumes that are attached to something. The caller holds the lock.
func (c *memoryCloud) attached() (n int) {
	for _, v := range c.volumes {
		if v.Instance != "" {
			n++
		}
	}
	return n
}

// awaitExpiry waits until the status says that a job waits for credentials, and for a while longer.
func (w *world) awaitExpiry() {
	w.t.Helper()
	w.await("the word that the credentials have expired", func() bool {
		s, err := ask[protocol.StatusRequest, protocol.Status](w, protocol.VerbStatus, protocol.StatusRequest{})
		return err == nil && strings.Contains(s.Servers[0].Waiting, "credentials") &&
			slices.ContainsFunc(s.Problems, func(p protocol.Problem) bool { return p.Code == protocol.ProblemCredentials })
	})
	time.Sleep(500 * time.Millisecond) // more than all attempts of a step would take
}

// wantNoAttemptUsedUp looks for steps that ran more than once, and for a log that repeats itself.
func wantNoAttemptUsedUp(t *testing.T, job protocol.Job) {
	t.Helper()
	for _, s := range job.Servers[0].Steps {
		if s.Attempts > 1 {
			t.Errorf("step %s took %d attempts", s.Name, s.Attempts)
		}
	}
	told := 0
	for _, e := range job.Log {
		if strings.Contains(e.Error, "RequestExpired") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the log tells of the credentials %d times", told)
	}
}

// TestAJobWaitsForCredentials lets them expire before a point's snapshots are made, and after the clone was.
func TestAJobWaitsForCredentials(t *testing.T) {
	for name, due := range map[string]func(made map[string]int) bool{
		"point":   func(made map[string]int) bool { return made[cloud.RoleStagingVolume] == 2 },
		"convert": func(made map[string]int) bool { return made[cloud.RoleClone] == 1 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.taken = 100 * time.Millisecond
			renewed := false
			w.cloud.changed = func() {
				w.cloud.mu.Lock()
				defer w.cloud.mu.Unlock()
				w.cloud.expired = !renewed && due(w.cloud.made) && w.cloud.attached() == 2
			}
			defer w.controller(t.Context())()
			w.apply(w.fleet())
			w.agent("web-1")
			w.awaitState(protocol.ReadyForTest)
			id := w.start(protocol.JobTest).ID
			w.awaitExpiry()
			w.cloud.mu.Lock()
			w.cloud.expired, renewed = false, true
			w.cloud.mu.Unlock()
			job := w.awaitJob(id)
			wantSucceeded(t, job)
			wantNoAttemptUsedUp(t, job)
			w.awaitState(protocol.ReadyForCutover)
		})
	}
}
