// Package await waits for something that others bring about. It holds no state.
package await

import (
	"context"
	"time"
)

// Until calls fn at once and then every interval, until it says true or returns an error, or
// until ctx ends; then it returns ctx's cause.
func Until(ctx context.Context, every time.Duration, fn func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if done, err := fn(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// Pause waits for d, or returns ctx's cause when ctx ends first.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
