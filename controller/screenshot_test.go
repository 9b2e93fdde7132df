package controller

import (
	"testing"

	"rehost/protocol"
)

// TestAScreenIsKeptAfterTheChecks, whether they have passed or not.
func TestAScreenIsKeptAfterTheChecks(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.fleet()
	w.apply(f)
	w.agent("web-1")
	w.awaitState(protocol.ReadyForTest)
	job := w.awaitJob(w.start(protocol.JobTest).ID)
	shot, err := ask[protocol.ScreenshotRequest, protocol.Screenshot](w, protocol.VerbScreenshot, protocol.ScreenshotRequest{Job: job.ID, Server: "web-1"})
	if instance := job.Servers[0].Data[protocol.JobDataInstance]; err != nil || shot.Instance != instance || string(shot.Image) != "screen of "+instance || job.Servers[0].Data[protocol.JobDataScreenshot] == "" {
		t.Errorf("got %+v, %v", shot, err)
	}
	_, err = ask[protocol.ScreenshotRequest, protocol.Screenshot](w, protocol.VerbScreenshot, protocol.ScreenshotRequest{Job: job.ID, Server: "web-2"})
	if !isProblem(err) {
		t.Errorf("a server without: %v", err)
	}
}
