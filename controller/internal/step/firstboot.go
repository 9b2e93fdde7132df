package step

import (
	"context"
	"fmt"
	"slices"
	"time"

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
	err := w.persist(limited, oneTry, func(ctx context.Context) error {
		result, err := w.launchedTarget().FirstBoot(ctx, a.ScriptName())
		if err == nil {
			run.Seconds, run.Code, run.Output = time.Since(run.Began).Seconds(), result.Code, outputTail(result.Output)
		}
		return err
	})
	switch {
	case ctx.Err() != nil:
		return run, context.Cause(ctx)
	case err == nil && run.Code == 0:
		run.Outcome = protocol.ScriptSucceeded
	case err == nil:
		run.Outcome = protocol.ScriptFailed
	case target.Lasts(err):
		run.Outcome, run.Problem = protocol.ScriptFailed, err.Error()
	default:
		run.Outcome, run.Problem = protocol.ScriptTimedOut, fmt.Sprintf("it has not ended within %s: %v", a.Timeout, err)
	}
	return run, nil
}
