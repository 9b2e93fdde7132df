package offline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"rehost/convert/offline"
	"rehost/internal/command"
	"rehost/protocol"
)

// withShell gives a guest busybox and what a script needs.
func withShell(t *testing.T, disk string) {
	t.Helper()
	var commands strings.Builder
	commands.WriteString("mkdir proc\nmkdir sys\nmkdir dev\nmkdir run\nmkdir tmp\nmkdir bin\nwrite /bin/busybox bin/busybox\nset_inode_field bin/busybox mode 0100755\n")
	for _, name := range []string{"sh", "cat", "mount", "sleep", "ls", "echo", "wc"} {
		commands.WriteString("symlink bin/" + name + " busybox\n")
	}
	if _, err := command.RunIn(t.Context(), "", []byte(commands.String()), "debugfs", "-w", "-f", "-", disk); err != nil {
		t.Fatal(err)
	}
}

// inGuest returns a file of an unmounted guest.
func inGuest(t *testing.T, disk, path string) string {
	t.Helper()
	out, err := command.Run(t.Context(), "debugfs", "-R", "cat "+path, disk)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func script(phase protocol.ScriptPhase, name, content string) protocol.Script {
	return protocol.Script{Name: name, Phase: phase, Content: "#!/bin/sh\n" + content, Timeout: time.Minute}
}

// bomb makes processes as fast as it can, and memory of them.
const bomb = "bomb() { bomb | bomb & }\nbomb\n" + "i=0; while [ $i -lt 600 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null\necho on it\nsleep 1000\n"

// TestScriptsInTheAppliance runs scripts of both phases, one of which attacks the machine, in one conversion.
func TestScriptsInTheAppliance(t *testing.T) {
	t.Parallel()
	image := buildAppliance(t)
	disk := filesystem(t, "/dev/vda / ext4 defaults 0 1\n")
	withShell(t, disk)
	label := script(protocol.ScriptBeforeMount, "label", "set -e\ntune2fs -L scripted \"$REHOST_DISKS\"\nlvm version >/dev/null\nblkid -o value -s LABEL $REHOST_DISKS\n")
	fix := script(protocol.ScriptAfterConversion, "fix", "echo \"$REHOST_JOB $REHOST_PURPOSE\" >>/etc/ran\ncat /etc/fstab\nmount -t tmpfs none /etc || echo no mounts\nls /sys/firmware | wc -l\n")
	hostile := script(protocol.ScriptAfterConversion, "hostile", bomb)
	hostile.Timeout, hostile.MayFail = time.Second, true
	job := offline.Job{Appliance: image, Disks: []string{disk}, Action: protocol.ActionApply, Settings: protocol.ConversionSettings{Scripts: []protocol.Script{fix, label, hostile}}}
	r := run(t, job)
	if !r.OK || len(r.Scripts) != 3 || len(r.Changes) == 0 {
		t.Fatalf("got %+v, problem %+v", r, r.Problem)
	}
	if s := r.Scripts[0]; s.Outcome != protocol.ScriptSucceeded || !strings.HasSuffix(s.Output, "\nscripted") {
		t.Errorf("before the mount: %+v", s)
	}
	if s := r.Scripts[1]; s.Outcome != protocol.ScriptSucceeded || !strings.HasPrefix(s.Output, "UUID=") || !strings.Contains(s.Output, "no mounts\n0") {
		t.Errorf("after the conversion: %+v", s)
	}
	if s := r.Scripts[2]; s.Outcome != protocol.ScriptTimedOut && s.Outcome != protocol.ScriptFailed || !has(r, protocol.FindingScript, protocol.SeverityWarning) {
		t.Errorf("hostile: %+v", s)
	}
	if got := inGuest(t, disk, "/etc/ran"); got != "image apply\n" {
		t.Errorf("the guest has %q", got)
	}
	if _, err := command.Run(t.Context(), "e2fsck", "-fn", disk); err != nil {
		t.Error(err)
	}
}

// A machine that is killed in a script leaves a guest that can be converted again; the script runs again, from its start.
func TestKilledScriptRunsAgain(t *testing.T) {
	long(t)
	disk := filesystem(t, "/dev/vda / ext4 defaults 0 1\n")
	withShell(t, disk)
	slow := script(protocol.ScriptAfterConversion, "slow", "echo begun >>/etc/ran; sync; sleep 3; echo ended >>/etc/ran\n")
	job := offline.Job{Appliance: buildAppliance(t), Disks: []string{disk}, Action: protocol.ActionApply, Settings: protocol.ConversionSettings{Scripts: []protocol.Script{slow}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	job.Progress = func(line string) {
		if strings.HasSuffix(line, "begins") {
			time.AfterFunc(2*time.Second, cancel)
		}
	}
	if r, err := offline.Run(ctx, job); err == nil {
		t.Fatalf("it was not killed: %+v", r)
	}
	if r := run(t, job); !r.OK || len(r.Changes) > 0 {
		t.Errorf("got %+v, problem %+v", r, r.Problem)
	}
	if got := inGuest(t, disk, "/etc/ran"); !strings.HasSuffix(got, "begun\nended\n") {
		t.Errorf("the guest has %q", got)
	}
	if _, err := command.Run(t.Context(), "e2fsck", "-fn", disk); err != nil {
		t.Error(err)
	}
}
