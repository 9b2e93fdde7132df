package step

import (
	"context"
	"time"

	"rehost/protocol"
)

// screenshotWithin bounds what is only for people to look at.
const screenshotWithin = 10 * time.Second

// keepScreenshot keeps what the instance shows on its screen. That there is none, as of an instance without a display, fails nothing.
func (w *Work) keepScreenshot(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, screenshotWithin)
	defer cancel()
	shot := protocol.Screenshot{Instance: w.data(protocol.JobDataInstance), At: time.Now()}
	image, err := w.cloud.Screenshot(ctx, shot.Instance)
	if err == nil {
		shot.Image = image
		err = w.store.Screenshots.Keep(ctx, w.job, w.server, shot)
	}
	if err == nil {
		err = w.set(ctx, protocol.JobDataScreenshot, shot.At.UTC().Format(time.RFC3339))
	}
	if err != nil {
		w.logger.Info("no screenshot", "job", w.job, "server", w.server, "error", err)
	}
}
