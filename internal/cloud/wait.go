package cloud

import (
	"context"
	"fmt"
	"time"
)

// Progress is told, while one waits, how far it is; nil is allowed.
type Progress func(detail string)

// settle is how long a thing may be unknown after its creation: EC2 shows new things late.
const settle = 30 * time.Second

// look is one look at a thing: whether the wait is over, and how far it is.
type look func(ctx context.Context) (done bool, detail string, err error)

// wait looks again and again until done, an error, or ctx's end. Throttling is waited out.
func (c *Client) wait(ctx context.Context, what string, progress Progress, fn look) error {
	started := time.Now()
	timer := time.NewTimer(c.poll)
	defer timer.Stop()
	last := ""
	for {
		done, detail, err := fn(ctx)
		switch {
		case err == nil:
		case NotFound(err) && time.Since(started) < settle:
			detail = "not visible yet"
		case Throttled(err):
			detail = "throttled"
		default:
			return err
		}
		if done {
			return nil
		}
		if progress != nil && detail != last {
			progress(detail)
			last = detail
		}
		timer.Reset(c.poll)
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s (last seen: %s): %w", what, last, context.Cause(ctx))
		case <-timer.C:
		}
	}
}
