package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// A hook that hangs ends with its time, and so do the programs that it started; the hook after the thaw is one too.
func TestAHookThatHangsEnds(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	hang := []string{"/bin/sh", "-c", `sleep 60 & echo $$ $! >> "$0"; wait`, pids}
	r := &runner{cfg: Config{Hooks: Hooks{PreFreeze: hang, PostThaw: hang, Timeout: 300 * time.Millisecond}}, log: hclog.NewNullLogger()}
	start := time.Now()
	if err := r.preFreeze(t.Context()); err == nil || !strings.Contains(err.Error(), "pre_freeze") {
		t.Errorf("got %v, want an error that names the hook", err)
	}
	r.postThaw(t.Context())
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the hooks took %s", took)
	}
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	started := strings.Fields(string(text))
	if len(started) != 4 {
		t.Fatalf("the hooks started %v", started)
	}
	for _, field := range started {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		for range 100 { // the kernel may take a moment
			if err = unix.Kill(pid, 0); err != nil {
				break
			}
			if state, _ := os.ReadFile(filepath.Join("/proc", field, "stat")); strings.Contains(string(state), ") Z ") {
				break // nobody has waited for it yet
			}
			time.Sleep(20 * time.Millisecond)
		}
		if state, _ := os.ReadFile(filepath.Join("/proc", field, "stat")); err == nil && !strings.Contains(string(state), ") Z ") {
			t.Errorf("process %s of a hook still runs", field)
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}
