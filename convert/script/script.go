// Package script runs the scripts of a server's owner in a conversion, which are the only
// programs of a guest that ever run there. A script is the first process of namespaces of its own:
// no network, no process but its own, mounts that end with it. What it starts
// ends when it ends, and at its time limit all is killed. One in a guest is locked
// into the guest's root, without the capabilities and the device files by which root gets out. The package decides nothing about
// what a failure means.
package script

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/command"
	"rehost/protocol"
)

// maxOutput is how much of a script's words is kept, in bytes: the report goes over a console of which EC2 keeps 64 KiB.
const maxOutput = 2 << 10

// Order is one run of a script.
type Order struct {
	Script protocol.Script `json:"script"`
	// Root is where the guest is mounted; empty: the script runs on the machine's own programs and sees its devices.
	Root   string   `json:"root"`
	Mounts []string `json:"mounts"` // all of the guest's, the root first
	Env    []string `json:"env"`    // beside the usual
	Group  string   `json:"-"`      // a control group (version 2) for its processes; empty: none, and then nothing bounds their number
}

// HelperArg names, among a program's arguments, the process that becomes the script; such a program calls [HelperMain].
const HelperArg = "script-helper"

// Run runs a script. A failure of the script is in what it returns; an error says that it could not be run at all.
func Run(ctx context.Context, o Order) (protocol.ScriptRun, error) {
	run := protocol.ScriptRun{Name: o.Script.Name, Phase: o.Script.Phase, Outcome: protocol.ScriptFailed}
	spec, err := json.Marshal(o)
	if err != nil {
		return run, fmt.Errorf("encode the script: %w", err)
	}
	limited, cancel := context.WithTimeout(ctx, o.Script.Limit())
	defer cancel()
	start := time.Now()
	said, err := o.run(limited, spec)
	run.Seconds, run.Output = time.Since(start).Seconds(), said
	exit, isExit := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return run, context.Cause(ctx)
	case limited.Err() != nil:
		run.Outcome = protocol.ScriptTimedOut
	case isExit:
		run.Code = exit.ExitCode()
		if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
			run.Code = 128 + int(status.Signal())
		}
	case err != nil:
		return run, err
	default:
		run.Outcome = protocol.ScriptSucceeded
	}
	return run, nil
}

// run starts the helper and waits for the end of all that it has become. The error is the script's own exit, or why there is none.
func (o Order) run(ctx context.Context, spec []byte) (said string, err error) {
	words := &command.Tail{Max: maxOutput}
	faults, theirs, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer func() { _ = faults.Close() }()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", HelperArg)
	cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = words, words, []string{}, "/"
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true, Pdeathsig: syscall.SIGKILL,
	}
	leave, err := o.enter(cmd)
	if err != nil {
		_ = theirs.Close()
		return "", err
	}
	defer func() { err = errors.Join(err, leave()) }()
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = theirs.Close()
	if err != nil {
		return "", fmt.Errorf("start a process for the script: %w", err)
	}
	// The mounts of the namespace end with its last user. That is this file, so that nothing of the guest is in use
	// any more when it is closed; a process that was killed lets go of them some time later.
	mounts, openErr := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
	_, writeErr := in.Write(spec)
	fault, readErr := "", in.Close()
	if openErr == nil {
		var text []byte
		text, readErr = io.ReadAll(io.LimitReader(faults, maxOutput)) // ends when the script begins
		fault = string(text)
		defer func() { _ = mounts.Close() }()
	} else {
		_ = cmd.Process.Kill()
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
	case fault != "":
		err = errors.New(fault)
	case openErr != nil || writeErr != nil || readErr != nil:
		err = errors.Join(openErr, writeErr, readErr, err)
	}
	return words.String(), err
}

// Bounds of a script's processes together. Building an initramfs takes some hundred MiB.
const (
	maxProcesses = "512"
	memoryShare  = 2 // of the machine's, that leaves enough for the machine itself
)

// enter has the process start in the control group.
func (o Order) enter(cmd *exec.Cmd) (leave func() error, err error) {
	if o.Group == "" {
		return func() error { return nil }, nil
	}
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return nil, fmt.Errorf("read the machine's memory: %w", err)
	}
	if err := os.MkdirAll(o.Group, 0o755); err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	memory := info.Totalram * uint64(info.Unit) / memoryShare
	for name, value := range map[string]string{"pids.max": maxProcesses, "memory.max": fmt.Sprint(memory), "memory.oom.group": "1"} {
		if err := os.WriteFile(filepath.Join(o.Group, name), []byte(value), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("bound a control group: %w", err), os.Remove(o.Group))
		}
	}
	group, err := os.Open(o.Group)
	if err != nil {
		return nil, fmt.Errorf("open a control group: %w", err)
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(group.Fd())
	return func() error {
		err := group.Close()
		// All its processes have ended; the kernel may take note of it a moment later.
		for range 100 {
			removed := os.Remove(o.Group)
			if !errors.Is(removed, unix.EBUSY) {
				return errors.Join(err, removed)
			}
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // nothing tells when a group is empty but the group itself
		}
		return errors.Join(err, fmt.Errorf("remove %s: it is in use", o.Group))
	}, nil
}
