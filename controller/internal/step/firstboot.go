package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rehost/controller/internal/await"
	"rehost/controller/internal/target"
	"rehost/protocol"
)

// awaitFirstBoot waits until the target has run an action at its first boot. It only looks, so it may do that again.
func (w *Work) awaitFirstBoot(ctx context.Context, a protocol.ActionSettings, run protocol.ActionRun) (protocol.ActionRun, error) {
	none := func(f protocol.Finding) bool { return f.Code == protocol.FindingFirstBoot }
	if slices.ContainsFunc(w.state().Findings, none) {
		run.Outcome, run.Problem = protocol.ScriptFailed, "the guest has no systemd, which would run it at the first boot"
		return run, nil
	}
	if err := w.beginAction(ctx, &run); err != nil {
		return run, err
	}
	limited, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	last := errors.New("the console has no word of it")
	err := await.Until(limited, w.cfg.Poll, func() (bool, error) {
		try, cancel := context.WithTimeout(limited, oneTry)
		defer cancel()
		result, err := w.launchedTarget().FirstBoot(try, a.ScriptName())
		switch {
		case err == nil:
			run.Seconds, run.Code, run.Output = time.Since(run.Began).Seconds(), result.Code, outputTail(result.Output)
			return true, nil
		case limited.Err() == nil: // otherwise it was our own deadline that cut it off
			last = err
		}
		if target.Lasts(err) {
			return false, err
		}
		return false, nil
	})
	switch {
	case ctx.Err() != nil:
		return run, context.Cause(ctx)
	case err == nil && run.Code == 0:
		run.Outcome = protocol.ScriptSucceeded
	case err == nil:
		run.Outcome = protocol.ScriptFailed
	case target.Lasts(err):
		run.Outcome, run.Problem = protocol.ScriptFailed, last.Error()
	default:
		run.Outcome, run.Problem = protocol.ScriptTimedOut, fmt.Sprintf("it has not ended within %s: %v", a.Timeout, last)
	}
	return run, nil
}
