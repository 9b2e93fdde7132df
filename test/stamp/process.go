package stamp

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// stopLimit is how long a role may take to end in order.
	stopLimit = 20 * time.Second
	// startPause is how long a role stays away when it has ended: less than the service manager's pause, for more faults a minute.
	startPause = 200 * time.Millisecond
)

// Process is a role as a process of its own: the test's binary again. As under a service manager, it is started again
// when it ends, until Stop.
type Process struct {
	tb   testing.TB
	role string
	args []string
	log  string // file with its output

	mu     sync.Mutex // guards the fields beneath
	wanted bool
	cmd    *exec.Cmd // nil: it does not run
	stdin  io.Closer
	done   chan struct{} // closed when it has ended
}

// newProcess prepares a role; the test's end stops it. When the test fails, the end of its output is shown.
func newProcess(tb testing.TB, dir, role string, args ...string) *Process {
	tb.Helper()
	p := &Process{tb: tb, role: role, args: args, log: filepath.Join(dir, role+".log")}
	tb.Cleanup(func() {
		p.Stop()
		if tb.Failed() {
			tb.Logf("%s:\n%s", p.log, tail(p.log, 6000))
		}
	})
	return p
}

// Start starts the process and keeps it running.
func (p *Process) Start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	p.startLocked()
}

func (p *Process) startLocked() {
	if p.cmd != nil || !p.wanted {
		return
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.tb.Error(err)
		return
	}
	defer out.Close()                                                                       //nolint:errcheck // the process has its own
	cmd := exec.Command("/proc/self/exe", append([]string{"role-" + p.role}, p.args...)...) //nolint:noctx // ended by Stop, in order
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.tb.Errorf("start the %s: %v", p.role, err)
		return
	}
	p.cmd, p.stdin, p.done = cmd, stdin, make(chan struct{})
	go p.wait(cmd, p.done)
}

// wait ends with the process.
func (p *Process) wait(cmd *exec.Cmd, done chan struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = nil
	close(done)
	exit, ok := errors.AsType[*exec.ExitError](err)
	killed := ok && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	switch {
	case !p.wanted && err != nil && !killed:
		p.tb.Errorf("the %s, told to end: %v", p.role, err)
	case p.wanted:
		if !killed {
			p.tb.Logf("the %s ended by itself: %v", p.role, err)
		}
		time.AfterFunc(startPause, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.startLocked()
		})
	}
}

// Pid returns the process's id; 0 when it does not run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Kill ends the process by kill -9; soon it runs again. It says whether it ran.
func (p *Process) Kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && p.cmd.Process.Kill() == nil
}

// Stop ends the process in order, and keeps it ended until Start.
func (p *Process) Stop() {
	p.mu.Lock()
	p.wanted = false
	cmd, done := p.cmd, p.done
	if cmd != nil {
		_ = p.stdin.Close() // that is the order to end
	}
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	select {
	case <-done:
	case <-time.After(stopLimit):
		p.tb.Errorf("the %s does not end within %s", p.role, stopLimit)
		_ = cmd.Process.Signal(syscall.SIGQUIT) // its stacks go to its output
		<-done
	}
}

// Child returns the id of the process's child whose last arguments are args; 0 when there is none.
func (p *Process) Child(args ...string) int {
	parent := p.Pid()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || parent == 0 {
		return 0
	}
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		text := string(stat)
		var pid, ppid int
		var state string
		_, errPid := fmt.Sscanf(text, "%d", &pid)
		_, errParent := fmt.Sscanf(text[strings.LastIndexByte(text, ')')+1:], " %s %d", &state, &ppid)
		if errPid != nil || errParent != nil || ppid != parent {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && strings.HasSuffix(string(cmdline), "\x00"+strings.Join(args, "\x00")+"\x00") {
			return pid
		}
	}
	return 0
}

// tail returns the last bytes of a file, for people.
func tail(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close() //nolint:errcheck // opened for reading
	if info, err := f.Stat(); err == nil && info.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd) // else all of it is shown
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
