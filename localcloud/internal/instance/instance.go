// Package instance runs what instances are made of: QEMU guests and host
// processes. It owns their processes and the files in their folders. It does
// not know EC2, keeps no state of its own beyond the processes, and never
// decides whether an instance should run.
package instance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"rehost/localcloud/internal/state"
)

// Spec is what an instance needs to run.
type Spec struct {
	ID   string
	Kind state.Kind
	// Dir is the instance's own folder. It exists.
	Dir string
	// Interfaces are the network interfaces; the first one reaches the metadata service.
	Interfaces []Interface
	// Metadata is host:port of the instance's metadata service.
	Metadata  string
	Type      string
	VCPUs     int
	MemoryMiB int
	// UEFI boots a guest with UEFI firmware instead of a BIOS.
	UEFI bool
	// Disks are the volumes, the root first.
	Disks []Disk
	// Program is the command line of a process.
	Program []string
}

// Interface is a guest's network interface.
type Interface struct {
	MAC string
	// Address is the loopback address on which Ports are forwarded to the guest.
	Address string
	Ports   []int
	// Outbound lets a guest reach the host and the networks that it reaches.
	Outbound bool
}

// Disk is an attached volume.
type Disk struct {
	VolumeID string
	// Path is the volume's raw file, absolute.
	Path string
}

// Host has the settings that all instances share.
type Host struct {
	// QEMU is the emulator's path.
	QEMU string
	// KVM uses /dev/kvm instead of emulation.
	KVM bool
	// Connect is the command that joins its standard input and output to the
	// address given as its last argument (see Run of the package imds).
	Connect []string
	Log     hclog.Logger
	// extra goes to the end of QEMU's command line: tests boot a kernel with it.
	extra []string
}

// Running is a process that runs an instance. Its methods may be called
// concurrently, Wait by one caller only.
type Running struct {
	spec Spec
	proc state.Proc
	// pidfd is a handle that cannot come to mean another process.
	pidfd *os.File
	child *os.Process // nil when adopted
	qmpMu sync.Mutex  // QEMU serves one QMP client at a time
}

// Proc identifies the process.
func (r *Running) Proc() state.Proc { return r.proc }

// Start starts the instance's process. It goes on without us: a local cloud
// that is killed finds its instances again with Adopt.
func (h *Host) Start(ctx context.Context, s Spec) (*Running, error) {
	if err := linkDisks(s); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.ID, err)
	}
	argv, env := s.Program, processEnv(s)
	if s.Kind == state.Guest {
		if err := ensureFirmware(s); err != nil {
			return nil, fmt.Errorf("start %s: %w", s.ID, err)
		}
		argv, env = append([]string{h.QEMU}, h.arguments(s)...), append(os.Environ(), marker+s.ID)
		h.Log.Debug("qemu command line", "instance", s.ID, "argv", strings.Join(argv, " "))
	}
	r, err := spawn(s, argv, env)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.ID, err)
	}
	if s.Kind == state.Guest {
		if err := r.awaitMonitor(ctx); err != nil {
			r.Kill()
			_ = r.Wait(context.WithoutCancel(ctx))
			return nil, fmt.Errorf("start %s: %w", s.ID, err)
		}
	}
	return r, nil
}

// Adopt takes over a process that an earlier local cloud started, if it still runs.
func Adopt(s Spec, p state.Proc) (*Running, bool) {
	if p.PID == 0 || !alive(p) {
		return nil, false
	}
	r, err := handle(s, p)
	// The number may have changed hands before the handle was made, not after.
	if err != nil || !alive(p) {
		return nil, false
	}
	// It may have been paused when its owner died.
	_ = unix.Kill(-p.PID, unix.SIGCONT)
	if linkDisks(s) != nil {
		return nil, false
	}
	return r, true
}

// Wait blocks until the process has ended. It returns ctx's error when that
// comes first, else an error unless the process ended by itself with success.
func (r *Running) Wait(ctx context.Context) error {
	if err := r.awaitExit(ctx); err != nil {
		return err
	}
	defer func() { _ = r.pidfd.Close() }()
	// What it started must not outlive it.
	_ = unix.Kill(-r.proc.PID, unix.SIGKILL)
	if r.child == nil {
		return nil // adopted: its status went to its new parent
	}
	st, err := r.child.Wait()
	if err != nil {
		return fmt.Errorf("wait for %s: %w", r.spec.ID, err)
	}
	if !st.Success() {
		return fmt.Errorf("%s ended: %s%s", r.spec.ID, st, r.lastWords())
	}
	return nil
}

// PowerDown asks the instance to end by itself.
func (r *Running) PowerDown(ctx context.Context) error {
	if r.spec.Kind == state.Guest {
		return r.qmp(ctx, "system_powerdown", nil, nil)
	}
	return r.signal(unix.SIGTERM)
}

// Reset restarts the guest's machine, or asks a process to end, after which
// its owner starts it again.
func (r *Running) Reset(ctx context.Context) error {
	if r.spec.Kind == state.Guest {
		return r.qmp(ctx, "system_reset", nil, nil)
	}
	return r.signal(unix.SIGTERM)
}

// Kill ends the process at once.
func (r *Running) Kill() { _ = r.signal(unix.SIGKILL) }

// Pause stops all threads of the process and returns when none of them can
// write any more. Resume undoes it.
func (r *Running) Pause(ctx context.Context) error {
	if err := unix.Kill(-r.proc.PID, unix.SIGSTOP); err != nil {
		return fmt.Errorf("pause %s: %w", r.spec.ID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !stopped(r.proc.PID) {
		select {
		case <-ctx.Done():
			r.Resume()
			return fmt.Errorf("pause %s: %w", r.spec.ID, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Resume lets a paused process go on.
func (r *Running) Resume() { _ = unix.Kill(-r.proc.PID, unix.SIGCONT) }

// ConsolePath is the file that takes a guest's serial console, or a process's output.
func ConsolePath(dir string) string { return filepath.Join(dir, "console.log") }

func (r *Running) signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(int(r.pidfd.Fd()), sig, nil, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) {
		return nil // ended already
	}
	return err
}

// lastWords is what QEMU said when it ended badly, such as an address in use.
func (r *Running) lastWords() string {
	if r.spec.Kind != state.Guest {
		return ""
	}
	raw, _ := os.ReadFile(filepath.Join(r.spec.Dir, "qemu.log"))
	text := strings.TrimSpace(string(raw))
	if len(text) > 400 {
		text = "..." + text[len(text)-400:]
	}
	if text == "" {
		return ""
	}
	return ": " + text
}
