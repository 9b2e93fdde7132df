package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBackgroundReadsGiveWay reads what the kernel says of each request: the class of a bulk read must be idle on its way to
// the disk, and what is read afterwards has the class that it had before.
func TestBackgroundReadsGiveWay(t *testing.T) {
	disk := attach(t, LoopOptions{File: image(t, 1<<20, 1), DirectIO: true})
	issued := traceIssues(t, disk.Path)
	d, err := Open(disk.Path, os.O_RDONLY|unix.O_DIRECT)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	buf, err := AlignedBuffer(4096)
	if err != nil {
		t.Fatal(err)
	}
	read := func(background bool, offset int64) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		Background(background)
		defer Background(false)
		if _, err := d.ReadAt(buf, offset); err != nil {
			t.Fatal(err)
		}
	}
	read(false, 0)
	read(true, 8*4096)
	read(false, 16*4096)

	classes := map[string]string{}
	for _, m := range regexp.MustCompile(`block_rq_issue: .*\(.*\) (\d+) \+ \d+ (\w+),`).FindAllStringSubmatch(issued(), -1) {
		classes[m[1]] = m[2]
	}
	if classes["64"] != "idle" {
		t.Errorf("the background read went to the disk with class %q, want idle: %v", classes["64"], classes)
	}
	if class, seen := classes["128"]; !seen || class != classes["0"] {
		t.Errorf("the read after it went to the disk with class %q: %v", class, classes)
	}
}

// traceIssues records the requests that are handed to one disk, in a trace instance of its own.
func traceIssues(t *testing.T, device string) (issued func() string) {
	t.Helper()
	root := t.TempDir()
	if err := unix.Mount("tracefs", root, "tracefs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, 0); err != nil {
			t.Error(err)
		}
	})
	format, err := os.ReadFile(filepath.Join(root, "events/block/block_rq_issue/format"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(format), " ioprio;") {
		t.Skip("this kernel's block_rq_issue does not tell priorities")
	}
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		t.Fatal(err)
	}
	instance := filepath.Join(root, "instances", fmt.Sprintf("rehost-test-%d", os.Getpid()))
	if err := os.Mkdir(instance, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(instance); err != nil {
			t.Error(err)
		}
	})
	// The kernel's own number of a device: 20 bits of minor.
	filter := fmt.Sprintf("dev == %d", unix.Major(st.Rdev)<<20|unix.Minor(st.Rdev))
	set := func(name, value string) {
		if err := os.WriteFile(filepath.Join(instance, "events/block/block_rq_issue", name), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("filter", filter)
	set("enable", "1")
	return func() string {
		set("enable", "0")
		text, err := os.ReadFile(filepath.Join(instance, "trace"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}
