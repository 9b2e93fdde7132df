package agent

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// fenceIn returns a fence over dir whose hooks note what they do; while the file "broken" is in dir, the unfence hook fails.
func fenceIn(t *testing.T, dir, boot string) *fence {
	t.Helper()
	note := func(word string) []string {
		return []string{"/bin/sh", "-c", `echo ` + word + ` >> "$0"/trace; ! [ ` + word + ` = unfence -a -e "$0"/broken ]`, dir}
	}
	cfg := Config{Server: "web-1", StateDir: dir, Hooks: Hooks{Fence: note("fence"), Unfence: note("unfence"), Timeout: 10 * time.Second}}
	return newFence(cfg, boot, hclog.NewNullLogger(), func() {})
}

func (f *fence) wantNow(t *testing.T, fenced bool) {
	t.Helper()
	var tasks sync.WaitGroup
	f.tryAt = time.Time{}
	f.want(t.Context(), &tasks, fenced)
	tasks.Wait()
}

func (f *fence) claims(t *testing.T, want bool) {
	t.Helper()
	if got, _ := f.state(); got != want {
		t.Errorf("the agent says fenced %v, want %v", got, want)
	}
}

func TestAFenceOutlivesTheAgentButNotTheBoot(t *testing.T) {
	dir := t.TempDir()
	f := fenceIn(t, dir, "boot-1")
	f.claims(t, false)
	f.wantNow(t, true)
	f.claims(t, true)
	fenceIn(t, dir, "boot-1").claims(t, true)
	// After a reboot the writers run again, whatever the file says.
	again := fenceIn(t, dir, "boot-2")
	again.claims(t, false)
	again.wantNow(t, true)
	again.claims(t, true)
	trace, err := os.ReadFile(filepath.Join(dir, "trace"))
	if err != nil || string(trace) != "fence\nfence\n" {
		t.Errorf("the hooks did %q, %v", trace, err)
	}
}

// A release that failed half way may have let writers go, so nothing is claimed; and it is still due, also for the next agent.
func TestAReleaseThatFailsIsNeitherClaimedNorForgotten(t *testing.T) {
	dir := t.TempDir()
	f := fenceIn(t, dir, "boot-1")
	f.wantNow(t, true)
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.wantNow(t, false)
	f.claims(t, false)
	if _, problem := f.state(); problem == nil {
		t.Error("a failed hook is no problem")
	}
	if err := os.Remove(filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	next := fenceIn(t, dir, "boot-1")
	next.claims(t, false)
	next.wantNow(t, false)
	next.wantNow(t, false) // done: not again
	trace, err := os.ReadFile(filepath.Join(dir, "trace"))
	if err != nil || string(trace) != "fence\nunfence\nunfence\n" {
		t.Errorf("the hooks did %q, %v", trace, err)
	}
}
