package operator

import (
	"context"
	"errors"

	"rehost/controller/internal/store"
	"rehost/protocol"
)

// Screenshot returns the screen that was kept of a job's server.
func (d *Desk) Screenshot(ctx context.Context, req protocol.ScreenshotRequest) (protocol.Screenshot, error) {
	if _, err := d.Job(ctx, protocol.JobRequest{ID: req.Job}); err != nil {
		return protocol.Screenshot{}, err
	}
	shot, err := d.store.Screenshots.Get(ctx, req.Job, req.Server)
	if errors.Is(err, store.ErrNotFound) {
		err = &protocol.Problem{
			Code: protocol.ProblemUnknown, Server: req.Server, Message: "job " + req.Job + " has no screenshot of " + req.Server,
			Hint: "one is taken when checks have passed or failed, of instances with a display, and kept for 90 days; rehost job show " + req.Job + " says of which",
		}
	}
	return shot, err
}
