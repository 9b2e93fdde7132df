package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"

	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

const (
	// askTimeout keeps the promise that a lost bus is told within five seconds.
	askTimeout = 4 * time.Second
	// gatesTimeout is the time for what asks the commands and pages of gates before it is answered.
	gatesTimeout = askTimeout + protocol.MaxGateTimeout
	// patience is how long a command that follows something waits for a bus that went away: a controller may restart.
	patience = 5 * time.Minute
)

// contextFiles are tried in order when none is named.
var contextFiles = []string{filepath.Join(".rehost", "context.json"), "/etc/rehost/context.json"}

// client connects to the controller on first use.
type client struct {
	env  Env
	path string // of the context file, from the flag
	nc   *nats.Conn
	url  string
	name string // of the operator

	reason string // of what changes something, for the audit log
}

// context finds and reads the context file.
func (c *client) context() (bus.Context, error) {
	path := c.path
	if path == "" {
		path = c.env.Getenv("REHOST_CONTEXT")
	}
	candidates := contextFiles
	if path != "" {
		candidates = []string{path}
	}
	for _, p := range candidates {
		found, err := bus.LoadContext(p)
		switch {
		case err == nil:
			return found, nil
		case !errors.Is(err, fs.ErrNotExist):
			return bus.Context{}, hint.Wrap(fmt.Errorf("read context: %w", err), "name another file with --context, or start `rehost dev`, which writes one")
		}
	}
	if path != "" {
		return bus.Context{}, hint.New("read context: no file "+path, "name the context.json that `rehost dev` or your administrator wrote")
	}
	return bus.Context{}, hint.New("no context: neither "+contextFiles[0]+" nor "+contextFiles[1]+" exists",
		"start `rehost dev`, or name a context file with --context or $REHOST_CONTEXT")
}

// connect dials the bus once.
func (c *client) connect(ctx context.Context) error {
	if c.nc != nil {
		return nil
	}
	where, err := c.context()
	if err != nil {
		return err
	}
	nc, err := bus.Connect(ctx, where, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	c.nc, c.url, c.name = nc, nc.ConnectedUrlRedacted(), where.Identity.Name
	return nil
}

// reach connects, or says in time that no bus answers.
func (c *client) reach(ctx context.Context, within time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := c.connect(limited)
	if err != nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return hint.Wrap(&lostError{fmt.Errorf("no bus answers within %s", within)}, "check that the controller runs, and that the address in the context file can be reached from here")
	}
	return err
}

func (c *client) close() {
	if c.nc != nil {
		c.nc.Close()
	}
}

// lostError says that the bus or the controller does not answer; what goes on there is unknown.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// ask sends one request to the controller and waits for the reply, or says within five seconds that there is none.
func ask[Req, Reply any](ctx context.Context, c *client, verb protocol.Verb, req Req) (Reply, error) {
	return askWithin[Req, Reply](ctx, c, askTimeout, verb, req)
}

// askWithin is ask for what may take the controller longer.
func askWithin[Req, Reply any](ctx context.Context, c *client, within time.Duration, verb protocol.Verb, req Req) (Reply, error) {
	var none Reply
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := c.reach(limited, min(within, askTimeout)); err != nil {
		return none, err
	}
	reply, err := bus.Request[Req, Reply](bus.WithReason(limited, c.reason), c.nc, protocol.OperatorSubject(verb, c.name), req)
	if err == nil {
		return reply, nil
	}
	if _, ok := errors.AsType[*protocol.Problem](err); ok {
		return none, err
	}
	const next = "check that the controller runs: systemctl status rehost-controller, or `rehost dev` where you started it"
	switch {
	case ctx.Err() != nil:
		return none, fmt.Errorf("interrupted: %w", ctx.Err())
	case !c.nc.IsConnected():
		return none, hint.Wrap(&lostError{fmt.Errorf("lost contact with the bus at %s", c.url)}, next)
	case errors.Is(err, nats.ErrNoResponders):
		return none, hint.Wrap(&lostError{fmt.Errorf("no controller answers on the bus at %s", c.url)}, next)
	case limited.Err() != nil:
		return none, hint.Wrap(&lostError{fmt.Errorf("no answer from the controller within %s", within)}, next)
	}
	return none, err
}

// follow calls step again and again until it says done. A bus that goes away is told
// once and waited for: what runs in the controller goes on without us.
func follow(ctx context.Context, c *client, timeout time.Duration, step func(context.Context) (done bool, err error)) error {
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	ticker := time.NewTicker(c.env.Poll)
	defer ticker.Stop()
	var lost time.Time
	for {
		done, err := step(ctx)
		_, isLost := errors.AsType[*lostError](err)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded) && !done:
			return &exitError{exitTimeout, hint.Wrap(fmt.Errorf("timed out after %s", timeout), "it goes on in the controller: look with `rehost status`, or wait longer with --timeout")}
		case err == nil && done:
			return nil
		case err == nil:
			if !lost.IsZero() {
				lost = time.Time{}
				c.note("contact is back")
			}
		case !isLost:
			return err
		case lost.IsZero():
			lost = time.Now()
			c.note("lost contact with the controller: " + oneLine(err.Error()) + "; still trying (what runs there goes on)")
		case time.Since(lost) > patience:
			return err
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return hint.Wrap(errors.New("interrupted: no longer following"), "it goes on in the controller: look with `rehost status`")
		}
	}
}

// note tells the operator something beside the result.
func (c *client) note(text string) {
	_, _ = fmt.Fprintf(c.env.Stderr, "note: %s\n", text) // nobody to tell when standard error is gone
}

// writePrivate writes a file that only its owner may read, whole or not at all.
func writePrivate(path string, content []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
