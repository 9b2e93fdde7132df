package freeze

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/hint"
)

const (
	ioctlFreeze = 0xc0045877 // FIFREEZE
	ioctlThaw   = 0xc0045878 // FITHAW

	// thawLimit is how long one stuck thaw may keep the others waiting.
	thawLimit = time.Second

	watchdogArg = "watchdog"
)

// mount is a filesystem that was prepared.
type mount struct {
	path   string
	fd     int
	frozen bool
	synced bool
}

// frozenResult is the end of one FIFREEZE.
type frozenResult struct {
	window int
	index  int
	err    error
}

// helper is the state of the helper process; its loop owns everything but the calls that may block.
type helper struct {
	out      *json.Encoder
	dog      *watchdogLink
	mounts   []*mount
	results  chan frozenResult
	expired  <-chan time.Time
	window   int // counts freezes, to tell late results
	next     int // the mount that is being frozen
	freezing bool
	stuck    int // calls of earlier windows that have not returned
	since    time.Time
	held     time.Duration
	intact   bool
	open     bool // a window that Thaw has not asked about yet
}

// HelperMain is the helper process. Args are those after the command's own name: none for the helper, "watchdog" for the
// watchdog. It returns when in ends or on SIGTERM, after thawing.
func HelperMain(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) == 1 && args[0] == watchdogArg {
		return watchdogMain(ctx, in, out)
	}
	if len(args) != 0 {
		return hint.New("the freeze helper takes no arguments", "do not run it by hand: the agent starts it")
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer stop()
	warnings := protect()
	dog, err := startWatchdog()
	if err != nil {
		return err
	}
	h := &helper{out: json.NewEncoder(out), dog: dog, results: make(chan frozenResult)}
	if err := h.out.Encode(reply{Op: opHello, Warnings: warnings}); err != nil {
		return errors.Join(fmt.Errorf("greet the agent: %w", err), dog.close())
	}
	err = h.run(ctx, in)
	return errors.Join(err, dog.close())
}

// protect keeps the process off the disk and out of the OOM killer's way. What does not work is told, not fatal.
func protect() []string {
	var warnings []string
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE); err != nil {
		warnings = append(warnings, fmt.Sprintf("lock memory: %v", err))
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		warnings = append(warnings, fmt.Sprintf("set the OOM score: %v", err))
	}
	return warnings
}

// run handles requests until in ends or ctx does, and leaves nothing frozen.
func (h *helper) run(ctx context.Context, in io.Reader) error {
	requests := make(chan request)
	done := make(chan struct{})
	defer close(done)
	go func() { // ends with the input or with the process: a blocked read cannot be interrupted
		defer close(requests)
		lines := bufio.NewScanner(in)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var q request
			if json.Unmarshal(lines.Bytes(), &q) != nil {
				return
			}
			select {
			case requests <- q:
			case <-done:
				return
			}
		}
	}()
	defer h.release()
	for {
		select {
		case q, ok := <-requests:
			if !ok {
				return nil
			}
			if err := h.out.Encode(h.handle(q)); err != nil {
				return fmt.Errorf("answer the agent: %w", err)
			}
		case r := <-h.results:
			if err := h.result(r); err != nil {
				return err
			}
		case <-h.expired:
			if err := h.expire(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// noReply marks a request whose reply comes later; the agent drops it.
const noReply = "later"

// handle executes one request; a freeze is only begun.
func (h *helper) handle(q request) reply {
	switch q.Op {
	case opPrepare:
		return answer(reply{Op: opPrepare}, h.prepare(q.Mounts))
	case opFreeze:
		if err := h.begin(q.Cap); err != nil {
			return answer(reply{Op: opFreeze}, err)
		}
		return reply{Op: noReply}
	case opThaw:
		if !h.open {
			return answer(reply{Op: opThaw}, hint.New("nothing was frozen", "freeze before you thaw"))
		}
		err := h.end(true)
		h.open = false
		return answer(reply{Op: opThaw, Held: h.held, Intact: h.intact && err == nil}, err)
	}
	return answer(reply{Op: q.Op}, fmt.Errorf("unknown request %q", q.Op))
}

func answer(r reply, err error) reply {
	if err != nil {
		r.Error, r.Hint = err.Error(), hint.Of(err)
	}
	return r
}

// prepare opens the mount points here and in the watchdog.
func (h *helper) prepare(paths []string) error {
	if h.freezing || h.expired != nil {
		return hint.New("filesystems are frozen", "thaw before you prepare the next freeze")
	}
	h.release()
	if h.stuck > 0 {
		return hint.New("an earlier freeze has not returned", "look for a hung filesystem: `dmesg`")
	}
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			h.release()
			return fmt.Errorf("open the mount point %s: %w", path, err)
		}
		h.mounts = append(h.mounts, &mount{path: path, fd: fd})
	}
	if err := h.dog.watch(h.mounts); err != nil {
		h.release()
		return err
	}
	h.writeOut()
	return nil
}

// writeOut writes the filesystems out side by side. Nothing is frozen yet, so one that is slow is not waited for: its
// freeze shows what is wrong with it.
func (h *helper) writeOut() {
	done := make(chan struct{}, len(h.mounts))
	for _, m := range h.mounts {
		go func() { // ends when the call returns
			_ = unix.Syncfs(m.fd)
			done <- struct{}{}
		}()
	}
	limit := time.After(writeOutLimit)
	for range h.mounts {
		select {
		case <-done:
		case <-limit:
			return
		}
	}
}

// writeOutLimit bounds the last write-out before a freeze.
const writeOutLimit = 2 * time.Second

// begin starts a window; the results come one by one, because each filesystem may rest on a later one.
func (h *helper) begin(limit time.Duration) error {
	if h.freezing || h.expired != nil {
		return hint.New("filesystems are frozen already", "thaw before you freeze again")
	}
	if len(h.mounts) == 0 {
		return hint.New("no filesystem is prepared", "prepare before each freeze")
	}
	h.window++
	h.next, h.freezing, h.intact, h.open = 0, true, true, true
	h.since, h.held = time.Now(), 0
	h.expired = time.After(limit)
	return h.freezeNext()
}

// freezeNext freezes one more filesystem on a thread of its own, so that a call that hangs does not keep this loop from thawing.
func (h *helper) freezeNext() error {
	m := h.mounts[h.next]
	// The watchdog must know first: this process may be killed right after the call.
	if err := h.dog.arm(h.next); err != nil {
		return errors.Join(err, h.end(false))
	}
	r := frozenResult{window: h.window, index: h.next}
	h.stuck++
	go func() { // ends when the call returns; the loop takes the result
		runtime.LockOSThread()
		r.err = unix.IoctlSetInt(m.fd, ioctlFreeze, 0)
		if errors.Is(r.err, unix.EOPNOTSUPP) || errors.Is(r.err, unix.ENOTTY) {
			if err := unix.Syncfs(m.fd); err != nil {
				r.err = fmt.Errorf("sync: %w", err)
			}
		}
		h.results <- r
	}()
	return nil
}

// result takes the end of one FIFREEZE and goes on, or ends the window.
func (h *helper) result(r frozenResult) error {
	h.stuck--
	m := h.mounts[r.index]
	switch {
	case r.err == nil:
		m.frozen = true
	case errors.Is(r.err, unix.EOPNOTSUPP), errors.Is(r.err, unix.ENOTTY):
		m.synced = true
		r.err = h.dog.disarm(r.index)
	default:
		r.err = errors.Join(explainFreeze(m.path, r.err), h.dog.disarm(r.index))
	}
	if r.window != h.window || !h.freezing {
		err := h.thaw(r.index) // it returned after its window had ended
		if h.stuck == 0 && !h.freezing && h.expired == nil {
			h.release()
		}
		return err
	}
	if r.err != nil {
		err := errors.Join(r.err, h.end(false))
		h.open = false
		return h.out.Encode(answer(reply{Op: opFreeze}, err))
	}
	h.next++
	if h.next < len(h.mounts) {
		if err := h.freezeNext(); err != nil {
			h.open = false
			return h.out.Encode(answer(reply{Op: opFreeze}, err))
		}
		return nil
	}
	h.freezing = false
	done := reply{Op: opFreeze, Since: h.since, At: time.Now()}
	for _, m := range h.mounts {
		if m.frozen {
			done.Frozen = append(done.Frozen, m.path)
		} else {
			done.NotFreezable = append(done.NotFreezable, m.path)
		}
	}
	return h.out.Encode(done)
}

func explainFreeze(path string, err error) error {
	err = fmt.Errorf("freeze %s: %w", path, err)
	if errors.Is(err, unix.EBUSY) {
		return hint.Wrap(err, "someone else has frozen it: wait for that backup, or run `fsfreeze --unfreeze "+path+"`")
	}
	if errors.Is(err, unix.EPERM) {
		return hint.Wrap(err, "run the agent as root")
	}
	return err
}

// expire is the timer's thaw: the window is over and its point is lost.
func (h *helper) expire() error {
	wasFreezing := h.freezing
	err := h.end(false)
	if !wasFreezing {
		return nil // the coming thaw tells; an error here is found by the watchdog
	}
	h.open = false
	err = errors.Join(hint.New("freezing took longer than its limit", "sync more often before the freeze, or raise the limit"), err)
	return h.out.Encode(answer(reply{Op: opFreeze}, err))
}

// end thaws everything of the current window. Wanted is false when it was not the agent who asked.
func (h *helper) end(wanted bool) error {
	h.expired = nil
	if h.held == 0 && !h.since.IsZero() {
		h.intact = h.intact && wanted && !h.freezing
	}
	h.freezing = false
	var errs []error
	for i := len(h.mounts) - 1; i >= 0; i-- {
		errs = append(errs, h.thaw(i))
	}
	if h.held == 0 {
		h.held = time.Since(h.since)
	}
	err := errors.Join(errs...)
	if err == nil && h.stuck == 0 {
		h.release()
	}
	return err
}

// thaw thaws one filesystem if it is frozen, and does not wait for one that hangs.
func (h *helper) thaw(i int) error {
	m := h.mounts[i]
	if !m.frozen {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- unix.IoctlSetInt(m.fd, ioctlThaw, 0) }() // ends when the call returns
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("thaw %s: %w", m.path, err)
		}
		if err != nil { // it was not frozen any more
			h.intact = false
		}
		m.frozen = false
		return h.dog.disarm(i)
	case <-time.After(thawLimit):
		return hint.New("thaw "+m.path+": the call hangs", "look for a hung disk: `dmesg`")
	}
}

// release thaws what is frozen and closes the mount points, so that they can be unmounted.
func (h *helper) release() {
	for i := len(h.mounts) - 1; i >= 0; i-- {
		_ = h.thaw(i) // what stays armed is the watchdog's
	}
	if h.stuck > 0 {
		return
	}
	for _, m := range h.mounts {
		if !m.frozen {
			_ = unix.Close(m.fd)
		}
	}
	h.mounts = nil
	_ = h.dog.watch(nil)
}
