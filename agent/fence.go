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
	"rehost/internal/jsonfile"
	"rehost/internal/uptime"
	"rehost/protocol"
)

// fenceRetry is the pause after a fence hook that failed.
const fenceRetry = 5 * time.Second

// fence stops and releases the source's writers through the owner's hooks. How far it is is a file, so that an agent that restarts in the middle of a
// cutover knows. The file names the boot: after another one the writers run again.
//
// A fence ends in one of two ways, and each is in the file before anybody is told: it is kept, since the controller asked for that and the cutover may be
// committed, or it lapses, since its time is over or the host was restarted. One that has lapsed is never kept, and one that is kept does not lapse.
type fence struct {
	cfg  Config
	boot string
	log  hclog.Logger
	now  func() time.Duration // since the boot, also while the host sleeps; a clock that is set does not move it

	mu      sync.Mutex // guards the fields beneath
	kept    fenceState
	running bool
	tryAt   time.Time
	problem *protocol.Problem
	changed func() // called after each change; it does not block
}

// fenceState is what the file says.
type fenceState struct {
	Stage fenceStage    `json:"stage"`
	ID    string        `json:"id"` // of the order
	Boot  string        `json:"boot"`
	Until time.Duration `json:"until_ns"` // when the fence lapses, since the boot; 0: never
}

type fenceStage string

const (
	fenceNone      fenceStage = ""
	fenceBegun     fenceStage = "fencing" // the hook may have stopped some of them
	fenceOn        fenceStage = "fenced"
	fenceKept      fenceStage = "kept"
	fenceReleasing fenceStage = "releasing" // nothing is claimed, and the unfence hook is due
	fenceLapsing   fenceStage = "lapsing"   // the same, since the fence has lapsed
	fenceLapsed    fenceStage = "lapsed"    // the writers go on
)

func newFence(cfg Config, boot string, log hclog.Logger) *fence {
	f := &fence{cfg: cfg, boot: boot, log: log, changed: func() {}, now: uptime.Now}
	err := jsonfile.Read(f.path(), &f.kept)
	switch s := &f.kept; {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil: // of an older agent, say
		*s = fenceState{Stage: fenceReleasing, Boot: boot}
	case s.Boot == boot:
	case s.Stage == fenceOn || s.Stage == fenceBegun || s.Stage == fenceLapsing || s.Stage == fenceLapsed:
		s.Stage = fenceLapsed
	default:
		s.Stage = fenceNone // a kept one is fenced again when it is ordered
	}
	return f
}

func (f *fence) path() string { return filepath.Join(f.cfg.StateDir, f.cfg.Server+".fenced") }

// told says who is to be told of changes.
func (f *fence) told(changed func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = changed
}

// fenced says that the writers stand still.
func (f *fence) fenced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept.Stage == fenceOn || f.kept.Stage == fenceKept
}

// report tells of the fence in a report.
func (f *fence) report(rep *protocol.AgentReport) {
	f.mu.Lock()
	defer f.mu.Unlock()
	rep.FenceID = f.kept.ID
	switch f.kept.Stage {
	case fenceOn:
		rep.Fenced = true
	case fenceKept:
		rep.Fenced, rep.FenceKept = true, true
	case fenceLapsing, fenceLapsed:
		rep.FenceLapsed = true
	case fenceNone, fenceBegun, fenceReleasing:
	}
	if f.problem != nil {
		rep.Problems = append(rep.Problems, *f.problem)
	}
}

// want does what leads to what is ordered, unless that is so already or a hook runs.
func (f *fence) want(ctx context.Context, tasks *sync.WaitGroup, o protocol.AgentOrder) {
	f.lapse(ctx, tasks)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.kept
	mine := s.ID == o.FenceID
	switch {
	case f.running || time.Now().Before(f.tryAt):
	case o.Fence && mine && s.Stage == fenceOn && o.FenceKeep:
		f.keepLocked(fenceState{fenceKept, s.ID, f.boot, 0})
		f.changed()
	case o.Fence && mine && (s.Stage == fenceOn || s.Stage == fenceKept || s.Stage == fenceLapsing || s.Stage == fenceLapsed):
	case o.Fence:
		next := fenceState{Stage: fenceBegun, ID: o.FenceID, Boot: f.boot}
		if mine && s.Stage == fenceBegun {
			next.Until = s.Until // counted from the first try
		} else if o.FenceMax > 0 {
			next.Until = f.now() + o.FenceMax
		}
		f.runLocked(ctx, tasks, next, fenceOn)
	case s.Stage == fenceNone:
	case s.Stage == fenceLapsed:
		f.keepLocked(fenceState{})
	case s.Stage != fenceLapsing: // that is on its way by itself
		f.runLocked(ctx, tasks, fenceState{Stage: fenceReleasing, ID: s.ID, Boot: f.boot}, fenceNone)
	}
}

// watch lets the writers go when a fence has lasted for its time, whoever is there to ask for it, until ctx ends.
func (f *fence) watch(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	for {
		f.lapse(ctx, &tasks)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// lapse ends a fence whose time is over.
func (f *fence) lapse(ctx context.Context, tasks *sync.WaitGroup) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.kept
	over := s.Until > 0 && f.now() >= s.Until && (s.Stage == fenceOn || s.Stage == fenceBegun)
	if f.running || !over && (s.Stage != fenceLapsing || time.Now().Before(f.tryAt)) {
		return
	}
	if over {
		f.log.Warn("the fence has lasted for its longest time: the writers are let go", "id", s.ID)
	}
	f.runLocked(ctx, tasks, fenceState{Stage: fenceLapsing, ID: s.ID, Boot: f.boot}, fenceLapsed)
}

// runLocked runs the hook of a stage, which leads to another one. What is begun is in the file first, unless it cannot be written: then writers that are
// to be let go are let go all the same, and none is stopped.
func (f *fence) runLocked(ctx context.Context, tasks *sync.WaitGroup, begin fenceState, end fenceStage) {
	stops := begin.Stage == fenceBegun
	if err := f.writeLocked(begin); err != nil && stops {
		f.failLocked(err)
		return
	}
	f.running, f.kept = true, begin
	tasks.Go(func() {
		err := f.hook(ctx, stops)
		f.mu.Lock()
		f.running, f.problem = false, nil
		if err == nil {
			begin.Stage = end
			if end == fenceNone {
				begin = fenceState{}
			}
			err = f.writeLocked(begin)
		}
		if err == nil {
			f.kept = begin
		} else {
			f.failLocked(err)
		}
		changed := f.changed
		f.mu.Unlock()
		f.log.Info("fence", "stage", begin.Stage, "id", begin.ID, "error", err)
		changed()
	})
}

func (f *fence) failLocked(err error) {
	f.tryAt = time.Now().Add(fenceRetry)
	f.problem = &protocol.Problem{Code: protocol.ProblemFence, Message: err.Error(), Hint: hint.Of(err), Server: f.cfg.Server, At: time.Now()}
}

func (f *fence) hook(ctx context.Context, stops bool) error {
	hook, name := f.cfg.Hooks.Unfence, "unfence"
	if stops {
		hook, name = f.cfg.Hooks.Fence, "fence"
		if len(hook) == 0 {
			return hint.New("there is no fence hook", "name a program in hooks.fence of the agent's configuration that stops what writes")
		}
	}
	if err := runHook(ctx, f.cfg, name, hook); err != nil {
		return hint.Wrap(err, "correct hooks."+name+" in the agent's configuration; it is tried again")
	}
	return nil
}

// keepLocked makes a state the fence's when it is in the file.
func (f *fence) keepLocked(s fenceState) {
	if err := f.writeLocked(s); err != nil {
		f.failLocked(err)
		return
	}
	f.kept, f.problem = s, nil
}

func (f *fence) writeLocked(s fenceState) error {
	var err error
	if s.Stage == fenceNone {
		if err = os.Remove(f.path()); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = jsonfile.Write(f.path(), s)
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
