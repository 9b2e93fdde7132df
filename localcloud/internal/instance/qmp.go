package instance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rehost/localcloud/internal/state"
)

// monitorPatience is how long QEMU may take to open its monitor, or the guest
// to let go of a disk.
const monitorPatience = 15 * time.Second

// qmpError is an error that QEMU reported, as against one of the connection.
type qmpError struct {
	Class, Desc string
}

func (e *qmpError) Error() string { return e.Desc }

// qmp executes one command of QEMU's monitor. out may be nil.
func (r *Running) qmp(ctx context.Context, command string, arguments, out any) error {
	r.qmpMu.Lock()
	defer r.qmpMu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, monitorPatience)
	defer cancel()
	var d net.Dialer
	// By way of the process's own folder, since a socket's path must be short.
	conn, err := d.DialContext(ctx, "unix", fmt.Sprintf("/proc/%d/cwd/qmp.sock", r.proc.PID))
	if err != nil {
		return fmt.Errorf("connect to monitor of %s: %w", r.spec.ID, err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() { // greeting
		return fmt.Errorf("monitor of %s: closed: %w", r.spec.ID, errors.Join(lines.Err()))
	}
	if err := exchange(conn, lines, "qmp_capabilities", nil, nil); err != nil {
		return fmt.Errorf("monitor of %s: %w", r.spec.ID, err)
	}
	if err := exchange(conn, lines, command, arguments, out); err != nil {
		return fmt.Errorf("monitor of %s: %s: %w", r.spec.ID, command, err)
	}
	return nil
}

func exchange(conn net.Conn, lines *bufio.Scanner, command string, arguments, out any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return err
	}
	for lines.Scan() {
		var answer struct {
			Return json.RawMessage
			Error  *qmpError
			Event  string
		}
		if err := json.Unmarshal(lines.Bytes(), &answer); err != nil {
			return fmt.Errorf("unknown answer: %w", err)
		}
		switch {
		case answer.Error != nil:
			return answer.Error
		case answer.Event != "":
			continue
		case out != nil:
			return json.Unmarshal(answer.Return, out)
		}
		return nil
	}
	return errors.Join(errors.New("connection closed"), lines.Err())
}

// awaitMonitor waits until QEMU is up. A QEMU that ended instead is an error
// that carries its words.
func (r *Running) awaitMonitor(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, monitorPatience)
	defer cancel()
	for {
		err := r.qmp(ctx, "query-status", nil, nil)
		if err == nil {
			return nil
		}
		wait, stop := context.WithTimeout(ctx, 30*time.Millisecond)
		ended := r.awaitExit(wait) == nil
		stop()
		if ended {
			return fmt.Errorf("qemu ended%s", r.lastWords())
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w%s", err, r.lastWords())
		}
	}
}

// Attach gives the running instance one more disk.
func (r *Running) Attach(ctx context.Context, d Disk) error {
	if r.spec.Kind == state.Process {
		err := os.Symlink(d.Path, filepath.Join(byID(r.spec.Dir), linkName(d.VolumeID)))
		if err != nil && !os.IsExist(err) {
			return fmt.Errorf("link volume: %w", err)
		}
		return nil
	}
	if err := r.qmp(ctx, "blockdev-add", blockNode(d), nil); err != nil {
		return err
	}
	err := r.qmp(ctx, "device_add", map[string]any{
		"driver": "nvme", "id": deviceName(d.VolumeID), "drive": nodeName(d.VolumeID), "serial": state.NVMeSerial(d.VolumeID),
	}, nil)
	if err != nil {
		_ = r.qmp(ctx, "blockdev-del", map[string]any{"node-name": nodeName(d.VolumeID)}, nil)
	}
	return err
}

// Detach takes a disk away from the running instance. A guest must cooperate;
// one that does not within some seconds keeps its disk, and that is an error.
func (r *Running) Detach(ctx context.Context, volumeID string) error {
	if r.spec.Kind == state.Process {
		err := os.Remove(filepath.Join(byID(r.spec.Dir), linkName(volumeID)))
		if err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("unlink volume: %w", err)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, monitorPatience)
	defer cancel()
	if err := r.qmp(ctx, "device_del", map[string]any{"id": deviceName(volumeID)}, nil); err != nil && !refused(err) {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		// The node is free once the guest let the device go.
		err := r.qmp(ctx, "blockdev-del", map[string]any{"node-name": nodeName(volumeID)}, nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest does not release the volume: %w", err)
		case <-tick.C:
		}
	}
}

// refused reports whether QEMU understood and said no.
func refused(err error) bool {
	_, ok := errors.AsType[*qmpError](err)
	return ok
}

// OpenPort forwards one more port to an interface of a running guest.
func (r *Running) OpenPort(ctx context.Context, index, port int) error {
	_, inside := guestSide(index)
	return r.monitor(ctx, fmt.Sprintf("hostfwd_add net%d %s", index, forward(r.spec.Interfaces[index].Address, inside, port)))
}

// ClosePort forwards a port no more.
func (r *Running) ClosePort(ctx context.Context, index, port int) error {
	return r.monitor(ctx, fmt.Sprintf("hostfwd_remove net%d tcp:%s:%d", index, r.spec.Interfaces[index].Address, port))
}

// monitor executes a command that only QEMU's monitor for people has.
func (r *Running) monitor(ctx context.Context, line string) error {
	if r.spec.Kind != state.Guest {
		return nil // a process listens by itself
	}
	var said string
	err := r.qmp(ctx, "human-monitor-command", map[string]any{"command-line": line}, &said)
	said = strings.TrimSpace(said)
	if err == nil && said != "" && !strings.HasSuffix(said, "removed") {
		err = fmt.Errorf("monitor of %s: %s: %s", r.spec.ID, line, said)
	}
	return err
}

// Screenshot returns the guest's display as PNG.
func (r *Running) Screenshot(ctx context.Context) ([]byte, error) {
	if r.spec.Kind != state.Guest {
		return nil, errors.New("a process has no display")
	}
	path := filepath.Join(r.spec.Dir, "screen.png")
	defer func() { _ = os.Remove(path) }()
	if err := r.qmp(ctx, "screendump", map[string]any{"filename": path, "format": "png"}, nil); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}
