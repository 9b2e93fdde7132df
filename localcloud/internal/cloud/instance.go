package cloud

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"rehost/localcloud/internal/fault"
	"rehost/localcloud/internal/instance"
	"rehost/localcloud/internal/state"
)

// control is how calls reach the supervisor of an instance. There is one as
// long as there is a supervisor.
type control struct {
	// stop takes the grace that the instance gets.
	stop chan time.Duration
	// ended is closed when the supervisor is gone and its addresses are free.
	ended   chan struct{}
	running *instance.Running // guarded by Cloud.mu; nil while no process runs
}

// claim makes the control of an instance. It waits for an earlier supervisor to go.
func (c *Cloud) claim(ctx context.Context, id string) (*control, error) {
	for {
		c.mu.Lock()
		old := c.active[id]
		if old == nil {
			k := &control{stop: make(chan time.Duration, 4), ended: make(chan struct{})}
			c.active[id] = k
			c.mu.Unlock()
			return k, nil
		}
		c.mu.Unlock()
		select {
		case <-old.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *Cloud) release(id string, k *control) {
	c.mu.Lock()
	delete(c.active, id)
	c.mu.Unlock()
	close(k.ended)
}

func (c *Cloud) runningOf(id string) *instance.Running {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.active[id]; k != nil {
		return k.running
	}
	return nil
}

// begin hands an instance over to a supervisor of its own.
func (c *Cloud) begin(ctx context.Context, id string) error {
	k, err := c.claim(ctx, id)
	if err != nil {
		return err
	}
	select {
	case c.launch <- launch{id, k}:
		return nil
	case <-c.done:
	case <-ctx.Done():
	}
	c.release(id, k)
	return &fault.Error{Code: "Unavailable", Message: "The local cloud is shutting down", Status: 503}
}

// Change is what a call did to the phase of an instance.
type Change struct {
	ID       string
	From, To state.Phase
}

// shift moves instances from one phase to another, all of them or none. to
// says where an instance goes; an error of it, or of the checks of the state as
// it would be then, refuses.
func (c *Cloud) shift(ids []string, to func(*state.Instance) (state.Phase, error), checks ...func(*state.State) error) ([]Change, error) {
	var out []Change
	err := c.Store.Update(func(st *state.State) error {
		out = nil
		for _, id := range ids {
			in := st.Instances[id]
			if in == nil {
				return fault.NotFound("InvalidInstanceID", id)
			}
			next, err := to(in)
			if err != nil {
				return err
			}
			out = append(out, Change{id, in.Phase, next})
			in.Phase = next
		}
		for _, check := range checks {
			if err := check(st); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func wrongPhase(in *state.Instance, verb string) error {
	return fault.New("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s: it is '%s'", in.ID, verb, in.Phase)
}

// Start starts stopped instances; the others must be running already.
func (c *Cloud) Start(ctx context.Context, ids []string) ([]Change, error) {
	changes, err := c.shift(ids, func(in *state.Instance) (state.Phase, error) {
		switch in.Phase {
		case state.Stopped:
			in.Reason, in.ReasonCode, in.Launched = "", "", time.Now()
			return state.Pending, nil
		case state.Running, state.Pending:
			return in.Phase, nil
		case state.Stopping, state.ShuttingDown, state.Terminated:
		}
		return "", wrongPhase(in, "started")
	}, c.Quotas.vcpus)
	if err != nil {
		return nil, err
	}
	for _, ch := range changes {
		if ch.From == state.Stopped {
			if err := c.begin(ctx, ch.ID); err != nil {
				return nil, err
			}
		}
	}
	return changes, nil
}

// Stop asks running instances to power down, and ends those that do not in
// time. With force they end at once.
func (c *Cloud) Stop(ids []string, force bool) ([]Change, error) {
	changes, err := c.shift(ids, func(in *state.Instance) (state.Phase, error) {
		switch in.Phase {
		case state.Running, state.Pending, state.Stopping:
			in.Reason = "User initiated (" + time.Now().UTC().Format("2006-01-02 15:04:05 GMT") + ")"
			in.ReasonCode = "Client.UserInitiatedShutdown"
			return state.Stopping, nil
		case state.Stopped:
			return in.Phase, nil
		case state.ShuttingDown, state.Terminated:
		}
		return "", wrongPhase(in, "stopped")
	})
	grace := c.StopGrace
	if force {
		grace = 0
	}
	for _, ch := range changes {
		if ch.To == state.Stopping {
			c.askToStop(ch.ID, grace)
		}
	}
	return changes, err
}

// Terminate ends instances for good. One that keeps a volume gets time to power
// down; one that leaves nothing behind has nothing to save.
func (c *Cloud) Terminate(ids []string) ([]Change, error) {
	changes, err := c.shift(ids, func(in *state.Instance) (state.Phase, error) {
		if in.NoTerminate {
			return "", fault.New("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", in.ID)
		}
		if in.Phase == state.Terminated {
			return in.Phase, nil
		}
		in.Reason = "User initiated (" + time.Now().UTC().Format("2006-01-02 15:04:05 GMT") + ")"
		in.ReasonCode = "Client.UserInitiatedShutdown"
		return state.ShuttingDown, nil
	})
	st := c.Store.View()
	for _, ch := range changes {
		switch {
		case ch.From == state.Stopped:
			if err := c.terminated(ch.ID); err != nil {
				return nil, err
			}
		case ch.To == state.ShuttingDown:
			in := st.Instances[ch.ID]
			grace := time.Duration(0)
			for _, v := range st.VolumesOf(in) {
				if !v.Attachment.DeleteOnTermination {
					grace = c.StopGrace
				}
			}
			if in.Kind == state.Process {
				grace = c.StopGrace
			}
			c.askToStop(ch.ID, grace)
		}
	}
	return changes, err
}

// askToStop reaches the supervisor. Without one the next supervisor sees the phase.
func (c *Cloud) askToStop(id string, grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k := c.active[id]; k != nil {
		k.ask(grace)
	}
}

func (k *control) ask(grace time.Duration) {
	select {
	case k.stop <- grace:
	default: // asked often enough
	}
}

// Reboot resets running instances.
func (c *Cloud) Reboot(ctx context.Context, ids []string) error {
	st := c.Store.View()
	for _, id := range ids {
		in := st.Instances[id]
		switch {
		case in == nil:
			return fault.NotFound("InvalidInstanceID", id)
		case in.Phase != state.Running:
			return wrongPhase(in, "rebooted")
		}
	}
	for _, id := range ids {
		if r := c.runningOf(id); r != nil {
			if err := r.Reset(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// consoleTail is how much of the console EC2 gives out.
const consoleTail = 64 << 10

// Console returns the last 64 KiB of an instance's console and when it last changed.
func (c *Cloud) Console(id string) ([]byte, time.Time, error) {
	if c.Store.View().Instances[id] == nil {
		return nil, time.Time{}, fault.NotFound("InvalidInstanceID", id)
	}
	f, err := os.Open(instance.ConsolePath(c.instanceDir(id)))
	if os.IsNotExist(err) {
		return nil, time.Now(), nil
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read console: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read console: %w", err)
	}
	from := max(0, info.Size()-consoleTail)
	raw, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read console: %w", err)
	}
	return raw, info.ModTime(), nil
}

// Screenshot returns a PNG of a guest's display.
func (c *Cloud) Screenshot(ctx context.Context, id string) ([]byte, error) {
	in := c.Store.View().Instances[id]
	if in == nil {
		return nil, fault.NotFound("InvalidInstanceID", id)
	}
	r := c.runningOf(id)
	switch {
	case in.Kind != state.Guest:
		return nil, fault.New("UnsupportedOperation", "The instance '%s' is a process and has no display", id)
	case r == nil:
		return nil, wrongPhase(in, "looked at")
	}
	return r.Screenshot(ctx)
}

// Attributes are the settings of an instance that may change later. Nil keeps.
type Attributes struct {
	OnShutdown  *string
	NoTerminate *bool
	Type        *string
	UserData    []byte
	Groups      []string
	// DeleteOnTermination is by device name.
	DeleteOnTermination map[string]bool
}

// Modify changes settings of an instance. Type and user data need it stopped.
func (c *Cloud) Modify(id string, a Attributes) error {
	return c.Store.Update(func(st *state.State) error {
		in := st.Instances[id]
		if in == nil {
			return fault.NotFound("InvalidInstanceID", id)
		}
		if (a.Type != nil || a.UserData != nil) && in.Phase != state.Stopped {
			return fault.New("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", id)
		}
		if a.Type != nil {
			in.Type = *a.Type
			if err := checkMachine(in); err != nil {
				return err
			}
		}
		set(&in.OnShutdown, a.OnShutdown)
		set(&in.NoTerminate, a.NoTerminate)
		if a.UserData != nil {
			in.UserData = a.UserData
		}
		for _, g := range a.Groups {
			if st.Groups[g] == nil {
				return fault.NotFound("InvalidGroup", g)
			}
		}
		if len(a.Groups) > 0 {
			in.First().Groups = a.Groups
		}
		for _, v := range st.VolumesOf(in) {
			if d, ok := a.DeleteOnTermination[v.Attachment.Device]; ok {
				v.Attachment.DeleteOnTermination = d
			}
		}
		return nil
	})
}
