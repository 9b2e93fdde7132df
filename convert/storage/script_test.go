package storage

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rehost/convert/script"
	"rehost/internal/command"
	"rehost/protocol"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == script.HelperArg {
		os.Exit(script.HelperMain())
	}
	os.Exit(m.Run())
}

const scriptedFstab = "LABEL=root / ext4 defaults 0 1\nLABEL=data /srv ext4 defaults 0 2\nUUID=0ddba11f-0000-4000-8000-000000000000 /opt ext4 defaults 0 2\nLABEL=data /none ext4 defaults 0 2\n"

// scripted makes a root that can be converted, with a shell, and a filesystem of its own for /srv.
func scripted(t *testing.T) []string {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	root := files(scriptedFstab)
	maps.Copy(root, map[string]string{
		"boot/grub/grub.cfg": "menuentry 'x' {\n\tlinux /boot/vmlinuz-6.1 root=/dev/vda ro quiet\n}\n", "boot/vmlinuz-6.1": "x",
		"lib/modules/6.1/modules.dep": "kernel/ena.ko:\n", "lib/modules/6.1/modules.builtin": "kernel/nvme.ko\nkernel/ext4.ko\n",
		"etc/network/interfaces": "auto eth0\n", "sbin/ifup": "x", "sbin/dhclient": "x",
		"bin/busybox": string(busybox), "proc/x": "", "dev/x": "", "run/x": "", "tmp/x": "", "srv/below": "", "opt/below": "",
	})
	disks := []string{ext4(t, root), ext4(t, map[string]string{"own": "x"})}
	for i, label := range []string{"root", "data"} {
		if _, err := command.Run(t.Context(), "tune2fs", "-L", label, disks[i]); err != nil {
			t.Fatal(err)
		}
	}
	commands := "set_inode_field bin/busybox mode 0100755\nsymlink bin/sh busybox\n"
	if _, err := command.RunIn(t.Context(), "", []byte(commands), "debugfs", "-w", "-f", "-", disks[0]); err != nil {
		t.Fatal(err)
	}
	return disks
}

// convertDisks runs one conversion on this machine's kernel, as the appliance does.
func convertDisks(t *testing.T, action protocol.ConversionAction, disks []string, scripts ...protocol.Script) protocol.ConversionReport {
	t.Helper()
	job := Job{Name: "job-1", Server: "web-1", Purpose: "test", Action: action, Settings: protocol.ConversionSettings{Scripts: scripts}}
	for i, d := range disks {
		job.Devices = append(job.Devices, Device{Volume: filepath.Base(d), Boot: i == 0, Path: d})
	}
	r := Convert(t.Context(), job, Options{Progress: func(s string) { t.Log(s) }, Script: script.Run})
	for _, d := range disks {
		if _, err := command.Run(t.Context(), "e2fsck", "-fn", d); err != nil {
			t.Errorf("%s is not clean: %v", d, err)
		}
	}
	return r
}

func phased(phase protocol.ScriptPhase, name, content string) protocol.Script {
	return protocol.Script{Name: name, Phase: phase, Content: "#!/bin/sh\n" + content, Timeout: time.Minute}
}

func content(t *testing.T, disk, path string) string {
	t.Helper()
	out, err := command.Run(t.Context(), "debugfs", "-R", "cat "+path, disk)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func finds(r protocol.ConversionReport, code protocol.FindingCode, severity protocol.Severity) bool {
	return slices.ContainsFunc(r.Findings, func(f protocol.Finding) bool { return f.Code == code && f.Severity == severity })
}

// A script sees the disks, then the whole converted guest, its other filesystems included; and a conversion says how each went.
func TestScriptsOfAConversion(t *testing.T) {
	needRoot(t)
	disks := scripted(t)
	before := phased(protocol.ScriptBeforeMount, "check", "set -- $REHOST_DISKS; echo \"$# disks\"; tune2fs -L data \"$2\" >/dev/null\n")
	after := phased(protocol.ScriptAfterConversion, "fix", "echo \"$REHOST_SERVER $REHOST_PURPOSE\" >>/srv/ran; /bin/busybox grep opt /etc/fstab\n")
	plan := convertDisks(t, protocol.ActionPlan, disks, after, before)
	if !plan.OK || len(plan.Scripts) != 2 || plan.Scripts[0].Name != "check" || plan.Scripts[1].Outcome != protocol.ScriptPlanned {
		t.Fatalf("planned %+v, problem %+v", plan.Scripts, plan.Problem)
	}
	r := convertDisks(t, protocol.ActionApply, disks, after, before)
	if !r.OK || len(r.Scripts) != 2 || len(r.Changes) == 0 || r.Scripts[0].Output != "2 disks" || !strings.Contains(r.Scripts[1].Output, "nofail") {
		t.Fatalf("got %+v, problem %+v", r.Scripts, r.Problem)
	}
	if !finds(r, protocol.FindingFstabMissing, protocol.SeverityWarning) {
		t.Errorf("nothing says that /opt is missing: %+v", r.Findings)
	}
	if !slices.ContainsFunc(r.Findings, func(f protocol.Finding) bool { return f.Subject == "/none" }) {
		t.Errorf("nothing says that /none is missing: %+v", r.Findings)
	}
	// A conversion that runs again runs its scripts again.
	if r := convertDisks(t, protocol.ActionApply, disks, after); !r.OK || len(r.Changes) != 0 || len(r.Scripts) != 1 {
		t.Errorf("again: %+v, problem %+v", r, r.Problem)
	}
	if got := content(t, disks[1], "/ran"); got != "web-1 test\nweb-1 test\n" {
		t.Errorf("the data disk has %q", got)
	}
	if r := convertDisks(t, protocol.ActionUndo, disks); r.OK || !strings.Contains(r.Problem.Message, "fix, check") || r.Problem.Hint == "" {
		t.Errorf("undone: %+v, problem %+v", r, r.Problem)
	}
}

func TestScriptsThatGoWrong(t *testing.T) {
	needRoot(t)
	t.Run("one that takes the conversion back is named", func(t *testing.T) {
		r := convertDisks(t, protocol.ActionApply, scripted(t), phased(protocol.ScriptAfterConversion, "back", "echo '/dev/vda / ext4 defaults 0 1' >/etc/fstab\n"))
		if !r.OK || !finds(r, protocol.FindingScriptChanged, protocol.SeverityWarning) {
			t.Errorf("got %+v, problem %+v", r.Findings, r.Problem)
		}
	})
	t.Run("one that takes the kernel away fails", func(t *testing.T) {
		r := convertDisks(t, protocol.ActionApply, scripted(t), phased(protocol.ScriptAfterConversion, "kernel", ": >/lib/modules/6.1/modules.dep\n"))
		if r.OK || !finds(r, protocol.FindingKernelDriver, protocol.SeverityCritical) {
			t.Errorf("got %+v, problem %+v", r.Findings, r.Problem)
		}
	})
	t.Run("one that fails ends the conversion", func(t *testing.T) {
		r := convertDisks(t, protocol.ActionApply, scripted(t), phased(protocol.ScriptBeforeMount, "first", "echo what a pity\nexit 7\n"), phased(protocol.ScriptAfterConversion, "never", ""))
		if r.OK || len(r.Scripts) != 1 || r.Scripts[0].Code != 7 || len(r.Changes) > 0 || !strings.Contains(r.Problem.Message, `"first" (before-mount) ended with 7`) || !strings.Contains(r.Problem.Message, "what a pity") {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
	})
	t.Run("one that may is told", func(t *testing.T) {
		lax := phased(protocol.ScriptAfterConversion, "lax", "exit 1\n")
		lax.MayFail = true
		r := convertDisks(t, protocol.ActionApply, scripted(t), lax, phased(protocol.ScriptAfterConversion, "next", "echo on\n"))
		if !r.OK || len(r.Scripts) != 2 || !finds(r, protocol.FindingScript, protocol.SeverityWarning) {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
	})
	t.Run("without a runner none runs", func(t *testing.T) {
		r := Convert(t.Context(), Job{Settings: protocol.ConversionSettings{Scripts: []protocol.Script{phased(protocol.ScriptAfterConversion, "fix", "")}}}, Options{})
		if r.OK || !finds(r, protocol.FindingScript, protocol.SeverityCritical) || !strings.Contains(r.Problem.Message, "appliance only") {
			t.Errorf("got %+v, problem %+v", r, r.Problem)
		}
	})
}

func TestTheLastWordsOfManyScriptsAreKept(t *testing.T) {
	var runs []protocol.ScriptRun
	for range 50 {
		runs = shorten(append(runs, protocol.ScriptRun{Outcome: protocol.ScriptSucceeded, Output: strings.Repeat("x", 1500)}))
	}
	sum := 0
	for _, r := range runs {
		sum += len(r.Output)
	}
	if len(runs) != 50 || sum != 3000 || runs[49].Output == "" || runs[48].Output == "" {
		t.Errorf("%d scripts say %d bytes", len(runs), sum)
	}
}
