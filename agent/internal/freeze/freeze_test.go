package freeze

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"rehost/internal/blockdev"
	"rehost/internal/command"
	"rehost/internal/hint"
)

// TestMain lets the test's own binary be the helper, its watchdog, and an agent that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "freeze-helper" {
		if err := HelperMain(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "agent" {
		if err := agentMain(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// agentMain freezes a filesystem and waits to be killed.
func agentMain(mount string) error {
	h, err := Start(context.Background(), hclog.NewNullLogger(), Options{Command: helperCommand()})
	if err != nil {
		return err
	}
	if err := h.Prepare(context.Background(), []string{mount}); err != nil {
		return err
	}
	if _, err := h.Freeze(context.Background(), MaxCap); err != nil {
		return err
	}
	fmt.Println("frozen")
	select {}
}

func helperCommand() []string { return []string{"/proc/self/exe", "freeze-helper"} }

func start(t *testing.T) *Helper {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	log := hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: hclog.Trace})
	h, err := Start(t.Context(), log, Options{Command: helperCommand()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// image makes a sparse file of a filesystem.
func image(t *testing.T, dir, kind string) string {
	t.Helper()
	sizes := map[string]int64{"ext4": 64 << 20, "xfs": 320 << 20}
	path := filepath.Join(dir, kind+".img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(sizes[kind]), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := command.Run(t.Context(), "mkfs."+kind, "-q", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func attach(t *testing.T, o blockdev.LoopOptions) *blockdev.Loop {
	t.Helper()
	l, err := blockdev.AttachLoop(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Detach(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// mountDisk mounts a disk on a new folder; the cleanup thaws it, whatever the test did.
func mountDisk(t *testing.T, source, kind string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(source, dir, kind, 0, ""); err != nil {
		t.Fatalf("mount %s: %v", source, err)
	}
	t.Cleanup(func() {
		_ = thawPath(dir)
		for range 100 { // a write that waited may still be on its way
			if err := unix.Unmount(dir, 0); err == nil || errors.Is(err, unix.EINVAL) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		t.Errorf("%s cannot be unmounted", dir)
	})
	return dir
}

// filesystem returns a mounted filesystem on a loop device of its own.
func filesystem(t *testing.T, kind string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	return mountDisk(t, attach(t, blockdev.LoopOptions{File: image(t, t.TempDir(), kind)}).Path, kind)
}

func ioctlPath(path string, request uint) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.IoctlSetInt(fd, request, 0)
}

func thawPath(path string) error { return ioctlPath(path, ioctlThaw) }

// write writes a file in the background.
func write(mount string) <-chan error {
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(filepath.Join(mount, "written"), []byte("x"), 0o600) }()
	return done
}

func wantBlocked(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		t.Errorf("a write ended although the filesystem is frozen: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
}

func wantWritten(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the filesystem is still frozen")
	}
}

func freeze(t *testing.T, h *Helper, limit time.Duration, mounts ...string) Result {
	t.Helper()
	if err := h.Prepare(t.Context(), mounts); err != nil {
		t.Fatal(err)
	}
	r, err := h.Freeze(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWritesWaitUntilTheThaw(t *testing.T) {
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			mount := filesystem(t, kind)
			h := start(t)
			for range 2 { // a window can be followed by another one
				r := freeze(t, h, MaxCap, mount)
				if diff := cmp.Diff([]string{mount}, r.Frozen); diff != "" || time.Since(r.At) > time.Minute {
					t.Errorf("got %+v", r)
				}
				done := write(mount)
				wantBlocked(t, done)
				held, intact, err := h.Thaw()
				if err != nil || !intact || held < 200*time.Millisecond {
					t.Errorf("got held %v, intact %v, %v", held, intact, err)
				}
				wantWritten(t, done)
			}
			if err := unix.Unmount(mount, 0); err != nil {
				t.Errorf("the helper keeps the filesystem busy after the thaw: %v", err)
			}
		})
	}
}

func TestTheTimerThaws(t *testing.T) {
	mount := filesystem(t, "ext4")
	h := start(t)
	freeze(t, h, 300*time.Millisecond, mount)
	done := write(mount)
	wantBlocked(t, done)
	wantWritten(t, done)
	held, intact, err := h.Thaw()
	if err != nil || intact || held < 300*time.Millisecond || held > 3*time.Second {
		t.Errorf("got held %v, intact %v, %v; the point must not be taken for a good one", held, intact, err)
	}
}

func TestAThawByAStrangerIsTold(t *testing.T) {
	mount := filesystem(t, "ext4")
	h := start(t)
	freeze(t, h, MaxCap, mount)
	if err := thawPath(mount); err != nil {
		t.Fatal(err)
	}
	if _, intact, err := h.Thaw(); err != nil || intact {
		t.Errorf("got intact %v, %v", intact, err)
	}
}

func TestTheWatchdogThawsWhenTheHelperIsKilled(t *testing.T) {
	mount := filesystem(t, "ext4")
	h := start(t)
	freeze(t, h, MaxCap, mount)
	done := write(mount)
	wantBlocked(t, done)
	if err := h.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wantWritten(t, done)
	if _, intact, err := h.Thaw(); err == nil || intact {
		t.Error("a dead helper claims to have kept the filesystem frozen")
	}
}

func TestSIGTERMThaws(t *testing.T) {
	mount := filesystem(t, "ext4")
	h := start(t)
	freeze(t, h, MaxCap, mount)
	done := write(mount)
	wantBlocked(t, done)
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wantWritten(t, done)
}

func TestTheHelperThawsWhenTheAgentIsKilled(t *testing.T) {
	mount := filesystem(t, "ext4")
	agent := exec.Command("/proc/self/exe", "agent", mount)
	agent.Stderr = t.Output()
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "frozen\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	done := write(mount)
	wantBlocked(t, done)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	wantWritten(t, done)
}

func TestAFilesystemFrozenBySomeoneElseIsAnError(t *testing.T) {
	first, taken := filesystem(t, "ext4"), filesystem(t, "ext4")
	h := start(t)
	if err := ioctlPath(taken, ioctlFreeze); err != nil {
		t.Fatal(err)
	}
	if err := h.Prepare(t.Context(), []string{first, taken}); err != nil {
		t.Fatal(err)
	}
	_, err := h.Freeze(t.Context(), time.Second)
	if err == nil || !strings.Contains(err.Error(), taken) || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
	wantWritten(t, write(first))
	done := write(taken)
	wantBlocked(t, done) // it is not ours to thaw
	if err := thawPath(taken); err != nil {
		t.Error(err)
	}
	wantWritten(t, done)
}

func TestAFilesystemThatCannotFreezeIsReported(t *testing.T) {
	mount := filesystem(t, "ext4")
	memory := t.TempDir()
	if err := unix.Mount("none", memory, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(memory, 0) })
	h := start(t)
	r := freeze(t, h, MaxCap, memory, mount)
	if diff := cmp.Diff(Result{Frozen: []string{mount}, NotFreezable: []string{memory}, Since: r.Since, At: r.At}, r); diff != "" {
		t.Error(diff)
	}
	if _, intact, err := h.Thaw(); err != nil || !intact {
		t.Errorf("got intact %v, %v", intact, err)
	}
}

func TestWrongUseGetsHints(t *testing.T) {
	h := start(t)
	if _, err := h.Freeze(t.Context(), 0); err == nil || hint.Of(err) == "" {
		t.Errorf("freeze of nothing: %v", err)
	}
	if _, _, err := h.Thaw(); err == nil || hint.Of(err) == "" {
		t.Errorf("thaw of nothing: %v", err)
	}
	if _, err := h.Freeze(t.Context(), time.Hour); err == nil || hint.Of(err) == "" {
		t.Errorf("freeze for an hour: %v", err)
	}
	if err := h.Prepare(t.Context(), []string{"/no/such/mount"}); err == nil {
		t.Error("a mount point that does not exist was prepared")
	}
}

// A freeze that hangs must not keep the others frozen, and must be undone when it returns after all.
func TestAHangingFreezeDoesNotHoldTheOthers(t *testing.T) {
	other, outer := filesystem(t, "ext4"), filesystem(t, "ext4")
	file := filepath.Join(outer, "inner.img")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(24<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := command.Run(t.Context(), "mkfs.ext4", "-q", file); err != nil {
		t.Fatal(err)
	}
	inner := mountDisk(t, attach(t, blockdev.LoopOptions{File: file}).Path, "ext4")
	h := start(t)
	t.Cleanup(func() { _ = thawPath(outer) })
	if err := os.WriteFile(filepath.Join(inner, "data"), make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	// The inner filesystem cannot write out its data while the outer one is frozen.
	if err := ioctlPath(outer, ioctlFreeze); err != nil {
		t.Fatal(err)
	}
	if err := h.Prepare(t.Context(), []string{other, inner}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Freeze(t.Context(), 400*time.Millisecond); err == nil || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q, want the limit", err, hint.Of(err))
	}
	wantWritten(t, write(other))
	if err := h.Prepare(t.Context(), []string{other}); err == nil {
		t.Error("a next freeze is prepared while the last one hangs")
	}
	if err := thawPath(outer); err != nil {
		t.Fatal(err)
	}
	wantWritten(t, write(inner))
	for range 100 { // the late freeze has been undone, and the helper can be used again
		if err = h.Prepare(t.Context(), []string{other}); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
}
