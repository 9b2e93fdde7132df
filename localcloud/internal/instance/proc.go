package instance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rehost/localcloud/internal/state"
)

// spawn starts a process that must outlive a local cloud that is killed, which
// is why it does not go through the command package.
func spawn(s Spec, argv, env []string) (*Running, error) {
	if len(argv) == 0 {
		return nil, errors.New("the image has no program")
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, fmt.Errorf("find program: %w", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("find program: %w", err)
	}
	// A guest's console is written by QEMU itself; what is left is QEMU's own words.
	log, mode := ConsolePath(s.Dir), os.O_APPEND
	if s.Kind == state.Guest {
		log, mode = filepath.Join(s.Dir, "qemu.log"), os.O_TRUNC
		_ = os.Remove(filepath.Join(s.Dir, "qmp.sock"))
	}
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|mode, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = out.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer func() { _ = null.Close() }()
	child, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: s.Dir, Env: env, Files: []*os.File{null, out, out},
		// Its own session: a Ctrl-C in our terminal is for us, and its group can be signalled as a whole.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", path, err)
	}
	start, _, err := readStat(child.Pid)
	if err == nil {
		var r *Running
		if r, err = handle(s, state.Proc{PID: child.Pid, Start: start, Boot: bootID()}); err == nil {
			r.child = child
			return r, nil
		}
	}
	_ = child.Kill()
	_, _ = child.Wait()
	return nil, fmt.Errorf("run %s: %w", path, err)
}

func handle(s Spec, p state.Proc) (*Running, error) {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", p.PID, err)
	}
	return &Running{spec: s, proc: p, pidfd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// awaitExit waits until the process ended, without reaping it.
func (r *Running) awaitExit(ctx context.Context) error {
	conn, err := r.pidfd.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for %s: %w", r.spec.ID, err)
	}
	if err := r.pidfd.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("wait for %s: %w", r.spec.ID, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n > 0
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// processEnv is the environment of a process instance: ours, plus where its
// metadata and its volumes are.
func processEnv(s Spec) []string {
	return append(os.Environ(), marker+s.ID,
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://"+s.Metadata,
		"REHOST_BY_ID="+byID(s.Dir))
}

func byID(dir string) string { return filepath.Join(dir, "by-id") }

// linkName is EC2's udev name of a volume under /dev/disk/by-id.
func linkName(volumeID string) string {
	return "nvme-Amazon_Elastic_Block_Store_" + state.NVMeSerial(volumeID)
}

// linkDisks makes the by-id folder of a process show exactly its volumes.
func linkDisks(s Spec) error {
	if s.Kind != state.Process {
		return nil
	}
	dir := byID(s.Dir)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear by-id folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make by-id folder: %w", err)
	}
	for _, d := range s.Disks {
		if err := os.Symlink(d.Path, filepath.Join(dir, linkName(d.VolumeID))); err != nil {
			return fmt.Errorf("link volume: %w", err)
		}
	}
	return nil
}

// alive reports whether the very process still runs.
func alive(p state.Proc) bool {
	if p.Boot != bootID() {
		return false
	}
	start, status, err := readStat(p.PID)
	return err == nil && start == p.Start && status != 'Z' && status != 'X'
}

// marker is in the environment of every process of an instance.
const marker = "REHOST_INSTANCE="

// KillStrays ends processes of an instance that nobody recorded.
func KillStrays(id string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), marker+id) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// readStat returns the start time in clock ticks since boot and the status letter.
func readStat(pid int) (start uint64, status byte, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(raw)
}

func parseStat(raw []byte) (start uint64, status byte, err error) {
	// The name in the second field may hold blanks and parentheses.
	end := bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[end+1:]))
	if end < 0 || len(fields) < 20 {
		return 0, 0, errors.New("unknown format of /proc/pid/stat")
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0][0], err
}

// stopped reports whether no thread of the process can run any more.
func stopped(pid int) bool {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return true // ended
	}
	for _, t := range tasks {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, t.Name()))
		if err != nil {
			continue
		}
		if _, status, err := parseStat(raw); err == nil && !strings.ContainsRune("TtZX", rune(status)) {
			return false
		}
	}
	return true
}

func bootID() string {
	raw, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(raw))
}
