package cli

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// devArgs starts a dev on free ports in a folder of its own.
func devArgs(t *testing.T) (args []string, data string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a local cloud needs root")
	}
	data = filepath.Join(t.TempDir(), "data")
	return []string{"dev", "--data", data, "--listen", freePort(t), "--cloud-listen", freePort(t), "--pool-size", "1GiB", "--replicaserver", "/bin/true"}, data
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// leftovers are the mounts and loop devices of a folder.
func leftovers(t *testing.T, dir string) (found []string) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			found = append(found, "mount "+line)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range backing {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), dir) {
			found = append(found, "loop device "+file)
		}
	}
	return found
}

func TestDevServesAndLeavesNothingBehind(t *testing.T) {
	args, data := devArgs(t)
	contextFile := filepath.Join(data, "context.json")
	for round := range 2 { // the second start goes on with what the first knew
		env, out, errOut := testEnv("", "")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan int, 1)
		go func() { ended <- Main(ctx, env, args) }()
		for start := time.Now(); !strings.Contains(out.String(), "rehost dev is ready"); time.Sleep(20 * time.Millisecond) {
			select {
			case code := <-ended:
				t.Fatalf("dev ended with %d: %s", code, errOut)
			default:
			}
			if time.Since(start) > time.Minute {
				t.Fatalf("dev is not ready: %s", errOut)
			}
		}
		if info, err := os.Stat(contextFile); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("context file: %v, %v", info, err)
		}
		if len(leftovers(t, data)) == 0 {
			t.Error("no mount while it runs: this test would not see one that is left behind")
		}
		env, out, errOut = testEnv(contextFile, "")
		if code := Main(t.Context(), env, []string{"apply", "../../../../configs/small", "--yes"}); code != exitOK {
			t.Errorf("apply: exit code %d: %s", code, errOut)
		}
		if changed := !strings.Contains(out.String(), "No changes"); changed != (round == 0) {
			t.Errorf("round %d: apply said %s", round, out)
		}
		cancel()
		if code := <-ended; code != exitOK {
			t.Errorf("dev: exit code %d: %s", code, errOut)
		}
		if found := leftovers(t, data); len(found) > 0 {
			t.Errorf("left behind: %v", found)
		}
	}
}

func TestDevSaysWhatIsMissingBeforeItStarts(t *testing.T) {
	base, data := devArgs(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	empty := t.TempDir()
	for name, c := range map[string]struct {
		args        []string
		path        string
		code        int
		error, hint string
	}{
		"port":    {[]string{"--listen", taken.Addr().String()}, "", exitFailure, "is in use", "choose another with --listen"},
		"address": {[]string{"--cloud-listen", "192.0.2.1:1"}, "", exitFailure, "listen on 192.0.2.1:1", "--cloud-listen"},
		"qemu":    {nil, empty, exitFailure, "qemu-system-x86_64 is not installed", "apt-get install"},
		"image":   {[]string{"--image", "debian=nowhere.img"}, "", exitFailure, "no file", "build it first"},
		"program": {[]string{"--replicaserver", "nowhere"}, "", exitFailure, "no file", "build it first"},
		"level":   {[]string{"--log-level", "loud"}, "", exitUsage, "not a log level", "use trace"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.path != "" {
				t.Setenv("PATH", c.path)
			}
			env, _, errOut := testEnv("", "")
			if code := Main(t.Context(), env, append(append([]string{}, base...), c.args...)); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			text := errOut.String()
			if strings.Count(text, "\n") != 2 || !strings.Contains(text, c.error) || !strings.Contains(text, "hint: ") || !strings.Contains(text, c.hint) {
				t.Errorf("got %q", text)
			}
			if _, err := os.Stat(data); err == nil {
				t.Error("it made its data folder although it could not start")
			}
		})
	}
}
