package stamp

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopLimit is how long a role may take to end in order.
const stopLimit = 20 * time.Second

// Process is a role as a process of its own: the test's binary again.
type Process struct {
	tb    testing.TB
	role  string
	args  []string
	log   string // file with its output
	cmd   *exec.Cmd
	stdin io.Closer
	done  chan struct{} // closed when it has ended
	err   error         // set by then
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

// Start starts the process, which must not run.
func (p *Process) Start() {
	p.tb.Helper()
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.tb.Fatal(err)
	}
	defer out.Close()                                                                       //nolint:errcheck // the process has its own
	cmd := exec.Command("/proc/self/exe", append([]string{"role-" + p.role}, p.args...)...) //nolint:noctx // ended by Stop, in order
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.tb.Fatalf("start the %s: %v", p.role, err)
	}
	p.cmd, p.stdin, p.done = cmd, stdin, make(chan struct{})
	go func(done chan struct{}) { // ends with the process
		p.err = cmd.Wait()
		close(done)
	}(p.done)
}

// Pid returns the process's id; 0 when it does not run.
func (p *Process) Pid() int {
	if p.cmd == nil || p.ended() {
		return 0
	}
	return p.cmd.Process.Pid
}

// ended says whether the process that was started last is gone.
func (p *Process) ended() bool {
	if p.done == nil {
		return true
	}
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Kill ends the process by kill -9, and returns when it is gone.
func (p *Process) Kill() {
	if p.ended() {
		return
	}
	_ = p.cmd.Process.Kill() // it may just have ended
	<-p.done
}

// Stop ends the process in order.
func (p *Process) Stop() {
	p.tb.Helper()
	if p.ended() {
		return
	}
	_ = p.stdin.Close() // that is the order to end
	select {
	case <-p.done:
		if p.err != nil {
			p.tb.Errorf("the %s: %v", p.role, p.err)
		}
	case <-time.After(stopLimit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // its stacks go to its output
		<-p.done
		p.tb.Errorf("the %s does not end within %s", p.role, stopLimit)
	}
}

// Child returns the id of the process's child whose arguments are args; 0 when there is none.
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
		var pid, ppid int
		var state string
		if _, err := fmt.Sscanf(string(stat), "%d", &pid); err != nil {
			continue
		}
		if _, err := fmt.Sscanf(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " %s %d", &state, &ppid); err != nil || ppid != parent {
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
