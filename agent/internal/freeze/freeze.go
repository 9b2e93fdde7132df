// Package freeze holds filesystems still for a moment. The freezing is done by a helper process that was started ahead
// and locked into memory, because the agent itself may wait for a frozen filesystem. The helper thaws by its own timer,
// when its pipe closes and on SIGTERM; a watchdog process thaws when the helper dies. The package touches only
// filesystems that it was given, and thaws only what it froze.
package freeze

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/hint"
)

const (
	// DefaultCap is the longest time that filesystems stay frozen when the caller names no other.
	DefaultCap = 2 * time.Second
	// MaxCap bounds what a caller may ask for: services on the host have watchdogs of 10 s and more.
	MaxCap = 10 * time.Second

	// replyGrace is how much longer than its own limits the helper may take to answer.
	replyGrace = 3 * time.Second
	// prepareLimit bounds what the helper does outside of a freeze.
	prepareLimit = 10 * time.Second
)

// Options tells how to start the helper.
type Options struct {
	// Command runs [HelperMain]; the watchdog is the same command with one more argument. Empty: this program with the
	// argument "freeze-helper".
	Command []string
}

// Result is what a freeze achieved.
type Result struct {
	// Frozen and NotFreezable are mount points, in the order in which they were frozen or, for want of that, synced.
	Frozen       []string
	NotFreezable []string
	// Since is when the first filesystem began to freeze, and At when the last one was frozen, by the wall clock.
	Since, At time.Time
}

// request and reply are one line of JSON each.
type request struct {
	Op     string        `json:"op"`
	Mounts []string      `json:"mounts,omitempty"`
	Cap    time.Duration `json:"cap,omitempty"`
}

type reply struct {
	Op           string        `json:"op"`
	Error        string        `json:"error,omitempty"`
	Hint         string        `json:"hint,omitempty"`
	Warnings     []string      `json:"warnings,omitempty"`
	Frozen       []string      `json:"frozen,omitempty"`
	NotFreezable []string      `json:"not_freezable,omitempty"`
	Since        time.Time     `json:"since,omitzero"`
	At           time.Time     `json:"at,omitzero"`
	Held         time.Duration `json:"held,omitempty"`
	Intact       bool          `json:"intact,omitempty"`
}

// The operations; a reply carries that of its request.
const (
	opHello   = "hello"
	opPrepare = "prepare"
	opFreeze  = "freeze"
	opThaw    = "thaw"
)

// Helper is a running helper process. One goroutine may use it at a time.
type Helper struct {
	log     hclog.Logger
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan reply
	reader  sync.WaitGroup
	words   tail
}

// Start starts the helper and its watchdog and returns when both are ready.
func Start(ctx context.Context, log hclog.Logger, o Options) (*Helper, error) {
	if len(o.Command) == 0 {
		o.Command = []string{"/proc/self/exe", "freeze-helper"}
	}
	// Not bound to ctx: the helper ends by itself when its input closes, and then it has thawed everything.
	cmd := exec.Command(o.Command[0], o.Command[1:]...)
	// A session of its own: Ctrl-C on the agent's terminal must not end the helper before the agent.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	h := &Helper{log: log, cmd: cmd, replies: make(chan reply, 4)}
	cmd.Stderr = &h.words
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the freeze helper: %w", err)
	}
	h.in = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the freeze helper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the freeze helper: %w", err)
	}
	h.reader.Go(func() { h.read(out) })
	hello, err := h.wait(ctx, opHello, prepareLimit)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the freeze helper: %w", err), h.Close())
	}
	for _, w := range hello.Warnings {
		log.Warn("freeze helper is not fully protected", "reason", w)
	}
	return h, nil
}

// read passes on the helper's replies until it ends.
func (h *Helper) read(out io.Reader) {
	defer close(h.replies)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r reply
		if json.Unmarshal(lines.Bytes(), &r) != nil {
			return
		}
		h.replies <- r
	}
}

// call sends a request and waits for its reply.
func (h *Helper) call(ctx context.Context, q request, limit time.Duration) (reply, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return reply{}, fmt.Errorf("encode a request to the freeze helper: %w", err)
	}
	if _, err := h.in.Write(append(line, '\n')); err != nil {
		return reply{}, fmt.Errorf("send %s to the freeze helper: %w%s", q.Op, err, h.words.suffix())
	}
	return h.wait(ctx, q.Op, limit)
}

// wait waits for the reply to op and drops late replies to requests that were given up.
func (h *Helper) wait(ctx context.Context, op string, limit time.Duration) (reply, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case r, ok := <-h.replies:
			if !ok {
				return reply{}, fmt.Errorf("the freeze helper died%s", h.words.suffix())
			}
			if r.Op != op {
				continue
			}
			if r.Error != "" {
				return r, hint.New(r.Error, r.Hint)
			}
			return r, nil
		case <-ctx.Done():
			return reply{}, ctx.Err()
		case <-timer.C:
			return reply{}, fmt.Errorf("the freeze helper did not answer %s within %s", op, limit)
		}
	}
}

// Prepare opens the filesystems ahead of a freeze and writes them out, since what is left to write then is written while
// everybody waits. It is needed before each one: a thaw closes them again, so that
// they can be unmounted between points. The order is that of freezing: what depends on others comes first.
func (h *Helper) Prepare(ctx context.Context, mounts []string) error {
	_, err := h.call(ctx, request{Op: opPrepare, Mounts: mounts}, prepareLimit)
	return err
}

// Freeze freezes the prepared filesystems. They thaw by themselves after limit, counted from the first one; 0 means
// DefaultCap. On an error, and when ctx ends, nothing stays frozen.
func (h *Helper) Freeze(ctx context.Context, limit time.Duration) (Result, error) {
	if limit == 0 {
		limit = DefaultCap
	}
	if limit < 0 || limit > MaxCap {
		return Result{}, hint.New(fmt.Sprintf("freeze for %s", limit), fmt.Sprintf("choose at most %s", MaxCap))
	}
	r, err := h.call(ctx, request{Op: opFreeze, Cap: limit}, limit+replyGrace)
	if err != nil {
		if ctx.Err() != nil {
			_, _, thawErr := h.Thaw()
			err = errors.Join(err, thawErr)
		}
		return Result{}, fmt.Errorf("freeze filesystems: %w", err)
	}
	return Result{Frozen: r.Frozen, NotFreezable: r.NotFreezable, Since: r.Since, At: r.At}, nil
}

// Thaw thaws what is frozen, in the reverse order. Held is how long the first one was frozen. Intact says that all stayed
// frozen until now; when it is false, the timer was faster, or someone else thawed, and what was read is not a point.
func (h *Helper) Thaw() (held time.Duration, intact bool, err error) {
	r, err := h.call(context.Background(), request{Op: opThaw}, prepareLimit)
	if err != nil {
		return r.Held, false, fmt.Errorf("thaw filesystems: %w", err)
	}
	return r.Held, r.Intact, nil
}

// Close ends the helper, which thaws what is frozen before it ends.
func (h *Helper) Close() error {
	err := h.in.Close()
	if errors.Is(err, os.ErrClosed) {
		err = nil
	}
	done := make(chan struct{})
	go func() { // ends with the process: it is killed below at the latest
		for range h.replies {
			continue
		}
		h.reader.Wait()
		_ = h.cmd.Wait() // how it ended does not matter
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(prepareLimit):
		err = errors.Join(err, hint.New("the freeze helper does not end", "look for a hung filesystem; its watchdog thaws what is frozen"), h.cmd.Process.Kill())
	}
	return err
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > 400 {
		t.text = t.text[len(t.text)-400:]
	}
	return len(p), nil
}

func (t *tail) suffix() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return ""
	}
	return ": " + string(t.text)
}
