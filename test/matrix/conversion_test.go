package matrix

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/convert/offline"
	"rehost/internal/command"
	"rehost/protocol"
)

// conversion converts a server's disks.
type conversion struct {
	appliance string
	disks     []string
}

// convert converts. The long way there is killed at a random moment, done once more, which must find nothing to do, and
// undone: a plan then says the same as before, with the hash of each file that it would change.
func convert(t *testing.T, c conversion, long bool) bool {
	t.Helper()
	if !long {
		return len(c.run(t, protocol.ActionApply)) > 0
	}
	plan := c.run(t, protocol.ActionPlan)
	c.kill(t)
	first := c.run(t, protocol.ActionApply)
	if len(plan) == 0 || len(first) > len(plan) || !c.settled(t) {
		t.Errorf("planned %+v, applied after the kill %+v", plan, first)
		return false
	}
	c.run(t, protocol.ActionUndo)
	if again := c.run(t, protocol.ActionPlan); !slices.Equal(again, plan) {
		t.Errorf("planned %+v, after undo %+v", plan, again)
	}
	applied := c.run(t, protocol.ActionApply)
	if !slices.Equal(applied, plan) {
		t.Errorf("planned %+v, applied %+v", plan, applied)
	}
	return len(applied) > 0
}

// checkFilesystem wants nothing to repair in the root on disk.
func (c combination) checkFilesystem(t *testing.T, disk string) {
	t.Helper()
	out, err := command.Run(t.Context(), "losetup", "--find", "--show", "--read-only", "--offset", fmt.Sprint(c.rootAt()), "--sizelimit", fmt.Sprint(rootBytes), disk)
	if err != nil {
		t.Error(err)
		return
	}
	device := strings.TrimSpace(string(out))
	check := map[string][]string{"ext4": {"e2fsck", "-f", "-n"}, "xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--readonly"}}[c.fs]
	_, err = command.Run(t.Context(), check[0], append(check[1:], device)...)
	if err := errors.Join(err, detach(device)); err != nil {
		t.Error(err)
	}
}

// detach also works when the test's time is over.
func detach(device string) error {
	_, err := command.Run(context.Background(), "losetup", "--detach", device)
	return err
}

// settled converts once more.
func (c conversion) settled(t *testing.T) bool {
	t.Helper()
	again := c.run(t, protocol.ActionApply)
	if len(again) > 0 {
		t.Errorf("the second time there is something to do: %+v", again)
	}
	return len(again) == 0
}

// run returns the changes, and nothing when there is no conversion.
func (c conversion) run(t *testing.T, action protocol.ConversionAction) []protocol.Change {
	t.Helper()
	start := time.Now()
	r, err := offline.Run(t.Context(), c.job(action))
	if err != nil || !r.OK {
		t.Errorf("%s: %v, problem %+v, findings %+v", action, err, r.Problem, r.Findings)
		return nil
	}
	t.Logf("%s: %d changes, %.1f s, %.1f s by the machine's clock", action, len(r.Changes), time.Since(start).Seconds(), r.Seconds)
	return r.Changes
}

// kill kills the machine at a random moment of its changes, and maybe after them.
func (c conversion) kill(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	job, moment := c.job(protocol.ActionApply), rand.N(time.Second)
	job.Progress = func(line string) {
		if strings.HasSuffix(line, "changes to make") {
			time.AfterFunc(moment, cancel)
		}
	}
	_, err := offline.Run(ctx, job)
	t.Logf("killed %s into its changes, or done: %v", moment.Round(time.Millisecond), err)
}

func (c conversion) job(action protocol.ConversionAction) offline.Job {
	return offline.Job{Appliance: c.appliance, Disks: c.disks, Action: action}
}
