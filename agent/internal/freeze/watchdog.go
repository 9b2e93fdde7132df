package freeze

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// watchdogLimit is how long anything stays frozen at most, even if the helper is stopped.
	watchdogLimit = MaxCap + 5*time.Second
	watchdogTick  = time.Second
)

// watchdogLink is the helper's end of the pipes to its watchdog. The messages are lines of words.
type watchdogLink struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startWatchdog runs this program again as the watchdog, and returns when it is ready.
func startWatchdog() (*watchdogLink, error) {
	args := append(append([]string(nil), os.Args[1:]...), watchdogArg)
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the watchdog: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for the watchdog: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	w := &watchdogLink{cmd: cmd, in: in, out: bufio.NewReader(out)}
	if err := w.confirm(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// send writes one message; a pipe takes it at once, without a disk.
func (w *watchdogLink) send(format string, args ...any) error {
	if _, err := fmt.Fprintf(w.in, format+"\n", args...); err != nil {
		return fmt.Errorf("tell the watchdog, which must live while anything is frozen: %w", err)
	}
	return nil
}

// confirm waits for the watchdog's word.
func (w *watchdogLink) confirm() error {
	line, err := w.out.ReadString('\n')
	if err != nil {
		return fmt.Errorf("hear from the watchdog: %w", err)
	}
	if text := strings.TrimSpace(line); text != "ok" {
		return fmt.Errorf("the watchdog says: %s", text)
	}
	return nil
}

// watch makes the watchdog open the same filesystems, and close those it had.
func (w *watchdogLink) watch(mounts []*mount) error {
	var message strings.Builder
	_, _ = fmt.Fprintf(&message, "watch %d", os.Getpid())
	for _, m := range mounts {
		_, _ = fmt.Fprintf(&message, " %d", m.fd)
	}
	if err := w.send("%s", message.String()); err != nil {
		return err
	}
	return w.confirm()
}

func (w *watchdogLink) arm(i int) error    { return w.send("arm %d", i) }
func (w *watchdogLink) disarm(i int) error { return w.send("disarm %d", i) }

// close lets the watchdog end: it thaws what is still armed.
func (w *watchdogLink) close() error {
	return errors.Join(w.in.Close(), w.cmd.Wait())
}

// watchdog is the state of the watchdog process.
type watchdog struct {
	fds   []int
	armed map[int]time.Time // index of a filesystem that may be frozen
}

// watchdogMain thaws what is armed when its input ends, which it does when the helper dies, and what was armed for too long.
func watchdogMain(ctx context.Context, in io.Reader, out io.Writer) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	_ = protect() // the helper told already
	lines := make(chan string)
	go func() { // ends with the input or with the process
		defer close(lines)
		scanner := bufio.NewScanner(in)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	if _, err := fmt.Fprintln(out, "ok"); err != nil {
		return fmt.Errorf("greet the helper: %w", err)
	}
	w := &watchdog{armed: map[int]time.Time{}}
	tick := time.NewTicker(watchdogTick)
	defer tick.Stop()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return w.thaw(0)
			}
			if err := w.handle(line, out); err != nil {
				return errors.Join(err, w.thaw(0))
			}
		case <-tick.C:
			_ = w.thaw(watchdogLimit) // tried again at the next tick
		case <-signals: // the helper got it as well, and decides when to end
		case <-ctx.Done():
			return w.thaw(0)
		}
	}
}

func (w *watchdog) handle(line string, out io.Writer) error {
	if rest, ok := strings.CutPrefix(line, "watch "); ok {
		text := "ok"
		if err := w.watch(rest); err != nil {
			text = err.Error()
		}
		if _, err := fmt.Fprintln(out, text); err != nil {
			return fmt.Errorf("answer the helper: %w", err)
		}
		return nil
	}
	var verb string
	var i int
	if _, err := fmt.Sscanf(line, "%s %d", &verb, &i); err != nil || i < 0 || i >= len(w.fds) {
		return fmt.Errorf("unknown message %q", line)
	}
	if verb == "arm" {
		w.armed[i] = time.Now()
	} else {
		delete(w.armed, i)
	}
	return nil
}

// watch opens the helper's filesystems through its own descriptors: the same ones, whatever their paths lead to by now.
func (w *watchdog) watch(words string) error {
	for _, fd := range w.fds {
		_ = unix.Close(fd)
	}
	w.fds, w.armed = nil, map[int]time.Time{}
	fields := strings.Fields(words)
	for _, fd := range fields[1:] {
		own, err := unix.Open(fmt.Sprintf("/proc/%s/fd/%s", fields[0], fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a filesystem of the helper: %w", err)
		}
		w.fds = append(w.fds, own)
	}
	return nil
}

// thaw thaws what has been armed for at least this long, last one first.
func (w *watchdog) thaw(age time.Duration) error {
	var errs []error
	for i := len(w.fds) - 1; i >= 0; i-- {
		since, ok := w.armed[i]
		if !ok || time.Since(since) < age {
			continue
		}
		if err := unix.IoctlSetInt(w.fds[i], ioctlThaw, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("thaw: %w", err))
			continue
		}
		delete(w.armed, i)
	}
	return errors.Join(errs...)
}
