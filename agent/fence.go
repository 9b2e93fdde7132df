package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/command"
	"rehost/internal/hint"
	"rehost/protocol"
)

// fenceRetry is the pause after a fence hook that failed.
const fenceRetry = 5 * time.Second

// fence stops and releases the source's writers through the owner's hooks. That they are stopped is a file, so that an
// agent that restarts in the middle of a cutover knows. The file names the boot: after another one the writers run again.
type fence struct {
	cfg     Config
	boot    string
	log     hclog.Logger
	changed func()

	mu      sync.Mutex // guards the fields beneath
	fenced  bool
	release bool // a release was begun and has not succeeded: nothing is claimed, and the hook is still due
	running bool
	tryAt   time.Time
	problem *protocol.Problem
}

func newFence(cfg Config, boot string, log hclog.Logger, changed func()) *fence {
	f := &fence{cfg: cfg, boot: boot, log: log, changed: changed}
	text, err := os.ReadFile(f.path())
	if err != nil {
		return f
	}
	f.fenced = string(text) == fencedText+boot
	f.release = string(text) == releasingText+boot
	return f
}

// What the file says, before the boot's id.
const (
	fencedText    = "fenced in boot "
	releasingText = "being released in boot "
)

func (f *fence) path() string { return filepath.Join(f.cfg.StateDir, f.cfg.Server+".fenced") }

func (f *fence) state() (bool, *protocol.Problem) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fenced, f.problem
}

// want runs the hook that leads to what is wanted, unless that is so already or a hook runs.
func (f *fence) want(ctx context.Context, tasks *sync.WaitGroup, fenced bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if done := f.fenced == fenced && !f.release; f.running || done || time.Now().Before(f.tryAt) {
		return
	}
	f.running = true
	if !fenced { // from here on they may run
		f.fenced, f.release = false, true
	}
	tasks.Go(func() {
		err := f.change(ctx, fenced)
		f.mu.Lock()
		f.running, f.problem = false, nil
		if err == nil {
			f.fenced, f.release = fenced, false
		} else {
			f.tryAt = time.Now().Add(fenceRetry)
			f.problem = &protocol.Problem{Code: protocol.ProblemFence, Message: err.Error(), Hint: hint.Of(err), Server: f.cfg.Server, At: time.Now()}
		}
		f.mu.Unlock()
		f.log.Info("fence", "wanted", fenced, "error", err)
		f.changed()
	})
}

func (f *fence) change(ctx context.Context, fenced bool) error {
	hook, name := f.cfg.Hooks.Unfence, "unfence"
	if fenced {
		hook, name = f.cfg.Hooks.Fence, "fence"
		if len(hook) == 0 {
			return hint.New("there is no fence hook", "name a program in hooks.fence of the agent's configuration that stops what writes")
		}
	}
	if !fenced {
		if err := f.keep(releasingText); err != nil {
			return err
		}
	}
	if err := runHook(ctx, f.cfg, name, hook); err != nil {
		return hint.Wrap(err, "correct hooks."+name+" in the agent's configuration; it is tried again")
	}
	if fenced {
		return f.keep(fencedText)
	}
	if err := os.Remove(f.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the fence: %w", err)
	}
	return nil
}

// keep remembers how far the fence is, whole or not at all.
func (f *fence) keep(text string) error {
	err := os.MkdirAll(f.cfg.StateDir, 0o700)
	if err == nil {
		err = os.WriteFile(f.path()+".new", []byte(text+f.boot), 0o600)
	}
	if err == nil {
		err = os.Rename(f.path()+".new", f.path())
	}
	if err != nil {
		return fmt.Errorf("remember the fence: %w", err)
	}
	return nil
}

func runHook(ctx context.Context, cfg Config, name string, hook []string) error {
	if len(hook) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Hooks.Timeout)
	defer cancel()
	if _, err := command.Run(ctx, hook[0], hook[1:]...); err != nil {
		return fmt.Errorf("hook %s: %w", name, err)
	}
	return nil
}

func (r *runner) preFreeze(ctx context.Context) error {
	return runHook(ctx, r.cfg, "pre_freeze", r.cfg.Hooks.PreFreeze)
}

func (r *runner) postThaw(ctx context.Context) {
	// The writers must be told even when the point was given up.
	if err := runHook(context.WithoutCancel(ctx), r.cfg, "post_thaw", r.cfg.Hooks.PostThaw); err != nil {
		r.log.Warn("hook after the thaw", "error", err)
	}
}
