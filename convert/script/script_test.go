package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/protocol"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == HelperArg {
		os.Exit(HelperMain())
	}
	os.Exit(m.Run())
}

// guest mounts a root with busybox as its shell and tools.
func guest(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "size=32m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Not lazily: nothing of a script may still be in it.
		if err := unix.Unmount(root, unix.UMOUNT_NOFOLLOW); err != nil {
			t.Error(err)
		}
	})
	for _, d := range []string{"bin", "proc", "sys", "dev", "run", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile("/bin/busybox")
	if err == nil {
		err = os.WriteFile(filepath.Join(root, "bin/busybox"), program, 0o755)
	}
	for _, name := range []string{"sh", "mount", "umount", "mknod", "chroot", "ls", "cat", "sleep", "wc", "head", "dd", "id", "unshare", "chmod", "mkdir"} {
		err = errors.Join(err, os.Symlink("busybox", filepath.Join(root, "bin", name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func order(root, content string) Order {
	o := Order{Script: protocol.Script{Name: "fix", Phase: protocol.ScriptAfterConversion, Content: content, Timeout: time.Minute}, Root: root}
	if root != "" {
		o.Mounts = []string{root}
	}
	return o
}

func run(t *testing.T, o Order) protocol.ScriptRun {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAScriptChangesTheGuestAndItsWordsAreKept(t *testing.T) {
	root := guest(t)
	o := order(root, "#!/bin/sh\necho \"$REHOST_PHASE of $REHOST_SERVER, $0\"\nid -u\nread x || echo nobody speaks\necho changed >/etc/app\n")
	o.Env = []string{"REHOST_SERVER=web-1"}
	r := run(t, o)
	if want := "after-conversion of web-1, /dev/rehost/fix\n0\nnobody speaks"; r.Outcome != protocol.ScriptSucceeded || r.Output != want {
		t.Errorf("got %+v, want the words %q", r, want)
	}
	if got, err := os.ReadFile(filepath.Join(root, "etc/app")); string(got) != "changed\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if entries, err := os.ReadDir(filepath.Join(root, "dev")); err != nil || len(entries) > 0 {
		t.Errorf("the guest's own /dev has %v, %v", entries, err)
	}
}

func TestOutcomes(t *testing.T) {
	root := guest(t)
	if r := run(t, order(root, "#!/bin/sh\nexit 3\n")); r.Outcome != protocol.ScriptFailed || r.Code != 3 {
		t.Errorf("got %+v", r)
	}
	long := run(t, order(root, "#!/bin/sh\ni=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done\nprintf '\\377 end\\n'\n"))
	if len(long.Output) > maxOutput+10 || !strings.HasPrefix(long.Output, "...") || !strings.HasSuffix(long.Output, "line 1999\n? end") {
		t.Errorf("got %d bytes that end with %q", len(long.Output), long.Output[max(0, len(long.Output)-40):])
	}
	if _, err := Run(t.Context(), order(root, "#!/usr/bin/python3 -u\n")); err == nil || err.Error() != "/usr/bin/python3 -u is not there" {
		t.Errorf("without its interpreter: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("called off"))
	if _, err := Run(ctx, order(root, "#!/bin/sh\n")); err == nil || err.Error() != "called off" {
		t.Errorf("got %v", err)
	}
}

// What a script started ends with it, at once or at its time limit; so nothing is in use when the guest is unmounted.
func TestNothingOutlivesAScript(t *testing.T) {
	root := guest(t)
	const leave = "(while :; do echo x >>/etc/log; sleep 0.05; done) &\nsleep 1000 </dev/null >/dev/null 2>&1 &\ncd /etc\n"
	if r := run(t, order(root, "#!/bin/sh\n"+leave)); r.Outcome != protocol.ScriptSucceeded {
		t.Errorf("got %+v", r)
	}
	o := order(root, "#!/bin/sh\n"+leave+"trap '' TERM INT\necho waiting\nsleep 1000\n")
	o.Script.Timeout = time.Second
	if r := run(t, o); r.Outcome != protocol.ScriptTimedOut || r.Output != "waiting" {
		t.Errorf("got %+v", r)
	}
	size := func() int64 {
		info, err := os.Stat(filepath.Join(root, "etc/log"))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	time.Sleep(200 * time.Millisecond)
	if after := size(); after != before {
		t.Errorf("something goes on writing: %d, then %d bytes", before, after)
	}
}

func TestAScriptStaysInTheGuest(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ script, want string }{
		"a file of the machine":  {"cat " + outside + " 2>/dev/null || echo none", "none"},
		"up and out":             {"cd ../../../../../../; ls -d root home 2>/dev/null || echo none", "none"},
		"a mount":                {"mount -t tmpfs none /etc 2>/dev/null && echo mounted || echo refused", "refused"},
		"a device of its own":    {"mknod /dev/d b 7 0 && (head -c 1 /dev/d >/dev/null 2>&1 && echo read || echo refused)", "refused"},
		"the kernel's settings":  {"(echo '|/bin/sh' >/proc/sys/kernel/core_pattern) 2>/dev/null && echo written || echo refused", "refused"},
		"the kernel's devices":   {"(echo x >/sys/kernel/uevent_helper) 2>/dev/null && echo written || echo refused", "refused"},
		"what the firmware says": {"ls /sys/firmware | wc -l", "0"},
		"the network":            {"cat /proc/net/dev | wc -l", "3"},
		"other processes":        {"set -- /proc/[0-9]*; echo $#", "1"},
		"devices that it needs":  {"echo x >/dev/null && head -c 4 /dev/urandom | wc -c", "4"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := run(t, order(guest(t), "#!/bin/sh\n"+c.script+"\n")); r.Output != c.want {
				t.Errorf("got %+v, want %q", r, c.want)
			}
		})
	}
}

// TestHostileGuests has guests whose own files are traps.
func TestHostileGuests(t *testing.T) {
	for name, c := range map[string]struct {
		trap func(root string) error
		want string
	}{
		"its shell is a link to one outside": {func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "bin/sh")), os.Symlink("/../../../usr/bin/dash", filepath.Join(root, "bin/sh")))
		}, "/bin/sh is not there"},
		"its /proc is a link": {func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "proc")), os.Symlink("/etc", filepath.Join(root, "proc")))
		}, "the guest has no folder /proc"},
		"its /dev is a file": {func(root string) error {
			return errors.Join(os.Remove(filepath.Join(root, "dev")), os.WriteFile(filepath.Join(root, "dev"), nil, 0o644))
		}, "the guest has no folder /dev"},
	} {
		t.Run(name, func(t *testing.T) {
			root := guest(t)
			if err := c.trap(root); err != nil {
				t.Fatal(err)
			}
			if r, err := Run(t.Context(), order(root, "#!/bin/sh\necho ran\n")); err == nil || err.Error() != c.want {
				t.Errorf("got %+v, %v; want %q", r, err, c.want)
			}
		})
	}
}

func TestAScriptOnTheMachineSeesItsDevices(t *testing.T) {
	o := order("", "#!/bin/sh\n[ -e /dev/loop-control ] && echo \"$REHOST_DISKS\"\nset -- /proc/[0-9]*; echo $#\n")
	o.Env = []string{"REHOST_DISKS=/dev/a /dev/b"}
	if r := run(t, o); r.Outcome != protocol.ScriptSucceeded || r.Output != fmt.Sprintf("/dev/a /dev/b\n%d", 1) {
		t.Errorf("got %+v", r)
	}
}
