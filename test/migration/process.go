package migration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is a program of ours that was started.
type Process struct {
	Name string
	Log  string // file with its output

	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// start runs a program with its output in a log file. It gets a process group of its own, so that
// an interrupt from the terminal reaches us only and we end things in order.
func (m *Migration) start(name, program string, args ...string) (*Process, error) {
	p := &Process{Name: name, Log: m.path(name + ".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	p.cmd = exec.Command(program, args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir = m.cfg.Dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { // ends with the process
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// Alive says whether the process runs.
func (p *Process) Alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill sends SIGKILL, as a crash or the kernel's memory killer would, and waits for the end.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.ended
	if errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: it had already ended: %w; see %s", p.Name, p.err, p.Log)
	}
	return err
}

// Stop asks the process to end and waits; after patience it is killed, which is an error. A nil process is fine.
func (p *Process) Stop(patience time.Duration) error {
	if p == nil || !p.Alive() {
		return nil
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(patience):
		return errors.Join(fmt.Errorf("stop %s: still there after %s; killed; see %s", p.Name, patience, p.Log), p.Kill())
	}
}

// Tail returns the last lines of the process's log.
func (p *Process) Tail(lines int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// PID returns the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }
