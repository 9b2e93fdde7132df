package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// patience is how long a process may take to end when it is asked to.
const patience = 20 * time.Second

// errExited is how a process ended that was not to end, and said that all is well.
var errExited = errors.New("exit status 0")

// process is a program that was started.
type process struct {
	name, log string
	patience  time.Duration // of stop
	cmd       *exec.Cmd
	ended     chan struct{}
	err       error // set when ended is closed
}

// start runs a program with its errors in a log file. It has a process group of its own, so that we end things in
// order, and dies with us.
func start(name, log string, stdin io.Reader, stdout io.Writer, env []string, argv ...string) (*process, error) {
	return startIn(0, patience, name, log, stdin, stdout, env, argv...)
}

// startIn is start in new namespaces, given as flags of clone(2), of a process that may take so long to end.
func startIn(namespaces uintptr, patience time.Duration, name, log string, stdin io.Reader, stdout io.Writer, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: log, patience: patience, ended: make(chan struct{})}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = stdin, stdout, f
	if stdout == nil {
		p.cmd.Stdout = f
	}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.WaitDelay = patience
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces}
	started := make(chan error)
	go func() { // ends with the process; Pdeathsig follows the thread that starts it
		runtime.LockOSThread()
		defer f.Close() //nolint:errcheck // the child wrote, not we
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			close(p.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// alive returns an error with the log's end when the process has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %w: %s", p.name, cmp.Or(p.err, errExited), tail(p.log))
	default:
		return nil
	}
}

// stop asks the process to end and waits; after a while it is killed, which is an error.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(p.patience):
		err := p.cmd.Process.Kill()
		<-p.ended
		return errors.Join(fmt.Errorf("stop %s: still there after %s; killed: %s", p.name, p.patience, tail(p.log)), err)
	}
}

func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	const most = 1500
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}
