package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rehost/internal/hint"
	"rehost/internal/program"
	"rehost/protocol"
)

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"apply"},
		{"apply", "--disk"},
		{"apply", "--disk", "x", "y"},
		{"apply", "--disk", "x", "--network", "static"},
		{"apply", "--disk", "x", "-o", "xml"},
		{"apply", "--nonsense"},
	} {
		var out, errOut bytes.Buffer
		if err := run(t.Context(), args, &out, &errOut); err == nil || !program.IsUsage(err) || hint.Of(err) == "" {
			t.Errorf("%v: got %v, want exit code 2", args, err)
		}
	}
}

func TestImageThatIsMissing(t *testing.T) {
	needRoot(t)
	var out, errOut bytes.Buffer
	err := run(t.Context(), []string{"apply", "--disk", filepath.Join(t.TempDir(), "no.raw")}, &out, &errOut)
	if err == nil || program.IsUsage(err) || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
}

// newImage returns a raw image with an ext4 filesystem of the files below the folder.
func newImage(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := filepath.Join(t.TempDir(), "disk.raw")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-d", dir, image, "32M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return image
}

func report(t *testing.T, args ...string) protocol.ConversionReport {
	t.Helper()
	var out, errOut bytes.Buffer
	err := run(context.WithoutCancel(t.Context()), append(args, "-o", "json"), &out, &errOut)
	var r protocol.ConversionReport
	if e := json.Unmarshal(out.Bytes(), &r); e != nil {
		t.Fatalf("%v: %v: %s", args, err, out.Bytes())
	}
	if (err == nil) != r.OK {
		t.Errorf("%v: got error %v, report says %v", args, err, r.OK)
	}
	return r
}

var guest = map[string]string{
	"etc/fstab":                       "/dev/vda / ext4 defaults 0 1\n",
	"etc/os-release":                  "PRETTY_NAME=\"Test\"\n",
	"boot/grub/grub.cfg":              "menuentry 'x' {\n\tlinux /boot/vmlinuz-6.1 root=/dev/vda ro\n}\n",
	"boot/vmlinuz-6.1":                "x",
	"lib/modules/6.1/modules.dep":     "kernel/ena.ko:\n",
	"lib/modules/6.1/modules.builtin": "kernel/nvme.ko\n",
	"etc/network/interfaces":          "auto eth0\n",
	"sbin/ifup":                       "x",
	"sbin/dhclient":                   "x",
	"usr/share/x":                     "x",
}

func TestImageIsPlannedConvertedAndUndone(t *testing.T) {
	needRoot(t)
	image := newImage(t, guest)
	plan := report(t, "plan", "--disk", image)
	if !plan.OK || len(plan.Changes) == 0 || plan.Guest.Kernel != "6.1" {
		t.Fatalf("got plan %+v", plan)
	}
	first := report(t, "apply", "--disk", image)
	if len(first.Changes) != len(plan.Changes) {
		t.Errorf("got %d changes, the plan had %d", len(first.Changes), len(plan.Changes))
	}
	if again := report(t, "apply", "--disk", image); !again.OK || len(again.Changes) != 0 {
		t.Errorf("the second time: %+v", again)
	}
	var out, errOut bytes.Buffer
	if err := run(t.Context(), []string{"undo", "--disk", image}, &out, &errOut); err != nil {
		t.Fatal(err)
	}
	if after := report(t, "plan", "--disk", image); len(after.Changes) != len(plan.Changes) {
		t.Errorf("after the undo %d changes are planned, before it was %d", len(after.Changes), len(plan.Changes))
	}
	if out, err := exec.Command("e2fsck", "-fn", image).CombinedOutput(); err != nil {
		t.Errorf("the filesystem is not clean: %v: %s", err, out)
	}
}

func TestDiskWithoutRoot(t *testing.T) {
	needRoot(t)
	r := report(t, "apply", "--disk", newImage(t, map[string]string{"data": "x"}))
	if r.OK || r.Problem == nil || !strings.Contains(r.Problem.Message, "no root filesystem") || r.Problem.Hint == "" {
		t.Errorf("got %+v", r)
	}
}

func TestTwoRoots(t *testing.T) {
	needRoot(t)
	r := report(t, "apply", "--disk", newImage(t, guest), "--disk", newImage(t, guest))
	if r.OK || r.Problem == nil || !strings.Contains(r.Problem.Message, "two root filesystems") {
		t.Errorf("got %+v", r)
	}
}
