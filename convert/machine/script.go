package machine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rehost/convert/script"
	"rehost/protocol"
)

// Where control groups are, and the one of the script that runs.
const (
	groups      = "/sys/fs/cgroup"
	scriptGroup = groups + "/rehost-script"
)

// script runs a script of the server's owner.
func (t *Tools) script(ctx context.Context, o script.Order) (protocol.ScriptRun, error) {
	none := protocol.ScriptRun{Name: o.Script.Name, Phase: o.Script.Phase, Outcome: protocol.ScriptFailed}
	if o.Root == "" {
		if err := t.Program("busybox"); err != nil {
			return none, err
		}
	}
	if err := t.confine(); err != nil {
		return none, err
	}
	o.Group = scriptGroup
	return script.Run(ctx, o)
}

// confine readies the kernel for programs that are not ours, once: with bounds for what they take, and without
// namespaces of users, in which a guest's program would have again what it was not given.
func (t *Tools) confine() error {
	if t.confined {
		return nil
	}
	if err := unix.Mount("cgroup2", groups, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount the control groups: %w", err)
	}
	err := errors.Join(os.WriteFile(groups+"/cgroup.subtree_control", []byte("+pids +memory"), 0o644),
		os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0o644))
	if err != nil {
		return fmt.Errorf("confine the scripts: %w", err)
	}
	t.confined = true
	return nil
}
