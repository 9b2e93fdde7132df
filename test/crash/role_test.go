package crash

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/agent"
	"rehost/internal/broker"
	"rehost/internal/jsonfile"
	"rehost/replicaserver"
)

// runBroker is the bus, as it is.
func runBroker(ctx context.Context, dir string) error {
	var s stage
	if err := jsonfile.Read(filepath.Join(dir, stageFile), &s); err != nil {
		return err
	}
	server, err := broker.Listen(ctx, broker.ServerConfig{Dir: busDir(s), Address: s.Listen, Logger: roleLog("broker")})
	if err != nil {
		return err
	}
	defer server.Close()
	<-ctx.Done()
	return nil
}

func busDir(s stage) string { return filepath.Join(s.Dir, "bus") }

// runAgent is an agent, as it is.
func runAgent(ctx context.Context, config string) error {
	var cfg agent.Config
	if err := jsonfile.Read(config, &cfg); err != nil {
		return err
	}
	return agent.Run(ctx, cfg, agent.Deps{Logger: roleLog(cfg.Server)})
}

// runReplicaServer is a replication server, as it is.
func runReplicaServer(ctx context.Context, dir string) error {
	if err := os.WriteFile(stagingPid(dir), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	cfg := replicaserver.Config{Metadata: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), ByID: os.Getenv("REHOST_BY_ID"), WorkDir: filepath.Join(dir, "staging")}
	return replicaserver.Run(ctx, cfg, replicaserver.Deps{Logger: roleLog("replicaserver")})
}

// stagingPid is the file that says which process is the replication server.
func stagingPid(dir string) string { return filepath.Join(dir, "staging.pid") }

func roleLog(name string) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: name, Output: os.Stderr, Level: hclog.Warn})
}

// part is a program in a process of its own, which is started again whenever it ends, as a service manager does.
type part struct {
	t       *testing.T
	command func() *exec.Cmd
	ended   chan struct{}

	mu      sync.Mutex // guards the fields beneath
	child   *exec.Cmd  // the newest one that could be started; nil: none was yet
	started time.Time
	ends    int
	dying   bool
}

const (
	// settled is how old a process is before it is killed again, so that it has been at work.
	settled = time.Second
	// pause keeps a program that ends at once from taking a whole processor.
	pause = 20 * time.Millisecond
)

// role is the test binary as one of the plays.
func role(t *testing.T, play, arg string, env ...string) func() *exec.Cmd {
	t.Helper()
	return func() *exec.Cmd {
		child := exec.Command(os.Args[0], play, arg)
		child.Stderr, child.Env = t.Output(), append(os.Environ(), env...)
		return child
	}
}

// startPart runs a program until the test ends.
func startPart(t *testing.T, command func() *exec.Cmd) *part {
	t.Helper()
	p := &part{t: t, command: command, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		for p.once() {
			time.Sleep(pause)
		}
	}()
	t.Cleanup(func() {
		p.mu.Lock()
		p.dying = true
		p.mu.Unlock()
		p.signal(syscall.SIGKILL)
		<-p.ended
	})
	return p
}

// once runs one process to its end, and says whether there shall be another one.
func (p *part) once() bool {
	child := p.command()
	p.mu.Lock()
	if p.dying {
		p.mu.Unlock()
		return false
	}
	err := child.Start()
	if err == nil {
		p.child, p.started = child, time.Now()
	}
	p.mu.Unlock()
	if err != nil {
		p.t.Errorf("start %s: %v", child, err)
		return false
	}
	_ = child.Wait() // it was killed
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ends++
	return true
}

// signal sends a signal to the process, which it returns: it may be dead already. nil: there was none yet.
func (p *part) signal(sig syscall.Signal) *os.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.child == nil {
		return nil
	}
	_ = p.child.Process.Signal(sig)
	return p.child.Process
}

// kill ends the process with SIGKILL, and says whether it did: not when it has just begun.
func (p *part) kill() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.child != nil && time.Since(p.started) > settled && p.child.Process.Kill() == nil
}

// takeEnds says how many processes have ended since it was asked last.
func (p *part) takeEnds() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, p.ends = p.ends, 0
	return n
}
