package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rehost/controller/internal/await"
	"rehost/controller/internal/target"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	defaultCheckTimeout = 5 * time.Minute
	oneTry              = 10 * time.Second
	oneCommand          = time.Minute // with the login before it
)

// check asks the target what the server's check blocks ask, and keeps what it shows then.
func check(ctx context.Context, w *Work) error {
	err := w.runChecks(ctx)
	if _, skipped := errors.AsType[*skip](err); !skipped {
		w.keepScreenshot(ctx)
	}
	return err
}

// runChecks asks each until its deadline.
func (w *Work) runChecks(ctx context.Context) error {
	settings, _, err := w.settings()
	if err != nil {
		return err
	}
	if w.data(dataStopped) != "" {
		return &skip{"the target is stopped, as its launch block wants it"}
	}
	if len(settings.Checks) == 0 {
		return &skip{"no checks are configured"}
	}
	byName := map[string]protocol.CheckSettings{}
	for _, c := range w.store.Applied().Checks {
		byName[c.Name] = c
	}
	for _, name := range settings.Checks {
		c, ok := byName[name]
		if !ok {
			return &final{fmt.Errorf("no check %q in the applied configuration", name)}
		}
		w.progress(ctx)("check " + name)
		if err := w.runCheck(ctx, c); err != nil {
			return err
		}
	}
	w.progress(ctx)("passed: " + strings.Join(settings.Checks, ", "))
	return nil
}

// checkTime is how long the server's checks may take together.
func checkTime(w *Work) time.Duration {
	settings, _, err := w.settings()
	if err != nil {
		return 0 // the step says so
	}
	var sum time.Duration
	for _, c := range w.store.Applied().Checks {
		if slices.Contains(settings.Checks, c.Name) {
			sum += checkLimit(c)
		}
	}
	return sum
}

func checkLimit(c protocol.CheckSettings) time.Duration {
	if c.Timeout <= 0 {
		return defaultCheckTimeout
	}
	return c.Timeout
}

// runCheck repeats one check until it passes or its time is over; then the last answer is the problem.
func (w *Work) runCheck(ctx context.Context, c protocol.CheckSettings) error {
	timeout := checkLimit(c)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := w.persist(limited, patience(c), func(ctx context.Context) error { return w.launchedTarget().Ask(ctx, c) })
	if err == nil {
		return nil
	}
	how := fmt.Sprintf("did not pass within %s", timeout)
	if target.Lasts(err) {
		how = "cannot pass"
	}
	return &protocol.Problem{
		Code:    protocol.ProblemCheck,
		Message: fmt.Sprintf("check %s of %s %s: %v", c.Name, w.data(protocol.JobDataInstance), how, err),
		Hint:    or(hint.Of(err), "look at the instance's console in the cloud; it is kept after a failed test"),
	}
}

// persist asks a target until it gets an answer, for as long as ctx lasts and another try would help ([target.Lasts]). The error is the last one that a
// try has met by itself.
func (w *Work) persist(ctx context.Context, patience time.Duration, try func(ctx context.Context) error) error {
	last := errors.New("no answer yet")
	err := await.Until(ctx, max(w.cfg.Poll, 200*time.Millisecond), func() (bool, error) {
		limited, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		err := try(limited)
		if err != nil && ctx.Err() == nil { // otherwise it was the end of ctx that cut it off
			last = err
		}
		if target.Lasts(err) {
			return false, err
		}
		return err == nil, nil
	})
	if err != nil {
		return last
	}
	return nil
}

// patience is how long one try may take.
func patience(c protocol.CheckSettings) time.Duration {
	if c.BySSH() {
		return oneCommand
	}
	return oneTry
}

// launchedTarget is the launched instance, as checks see it.
func (w *Work) launchedTarget() target.Target {
	return target.Target{Instance: w.data(protocol.JobDataInstance), Address: w.data(protocol.JobDataAddress), Cloud: w.cloud, Dial: w.dial}
}
