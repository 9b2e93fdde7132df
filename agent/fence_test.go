package agent

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/uptime"
	"rehost/protocol"
)

// fenceIn returns a fence over dir whose hooks note what they do; while the file "broken" is in dir, the unfence hook fails.
func fenceIn(t *testing.T, dir, boot string) *fence {
	t.Helper()
	note := func(word string) []string {
		return []string{"/bin/sh", "-c", `echo ` + word + ` >> "$0"/trace; ! [ ` + word + ` = unfence -a -e "$0"/broken ]`, dir}
	}
	cfg := Config{Server: "web-1", StateDir: dir, Hooks: Hooks{Fence: note("fence"), Unfence: note("unfence"), Timeout: 10 * time.Second}}
	return newFence(cfg, boot, hclog.NewNullLogger())
}

// wantNow follows an order of a job to its end.
func (f *fence) wantNow(t *testing.T, o protocol.AgentOrder) {
	t.Helper()
	var tasks sync.WaitGroup
	f.tryAt = time.Time{}
	f.want(t.Context(), &tasks, o)
	tasks.Wait()
}

var (
	fenceIt = protocol.AgentOrder{Fence: true, FenceID: "job-1", FenceMax: time.Hour}
	keepIt  = protocol.AgentOrder{Fence: true, FenceID: "job-1", FenceMax: time.Hour, FenceKeep: true}
	release = protocol.AgentOrder{}
)

// claims checks what the agent says: nothing, "fenced", "kept" or "lapsed".
func (f *fence) claims(t *testing.T, want string) {
	t.Helper()
	var rep protocol.AgentReport
	f.report(&rep)
	got := ""
	switch {
	case rep.FenceKept:
		got = "kept"
	case rep.Fenced:
		got = "fenced"
	case rep.FenceLapsed:
		got = "lapsed"
	}
	if got != want || rep.Fenced != f.fenced() {
		t.Errorf("the agent says %q (%+v), want %q", got, rep, want)
	}
}

func wantTrace(t *testing.T, dir, want string) {
	t.Helper()
	trace, err := os.ReadFile(filepath.Join(dir, "trace"))
	if err != nil || strings.Join(strings.Fields(string(trace)), " ") != want {
		t.Errorf("the hooks did %q, %v, want %q", trace, err, want)
	}
}

func TestAFenceOutlivesTheAgentButNotTheBoot(t *testing.T) {
	dir := t.TempDir()
	f := fenceIn(t, dir, "boot-1")
	f.claims(t, "")
	f.wantNow(t, fenceIt)
	f.claims(t, "fenced")
	fenceIn(t, dir, "boot-1").claims(t, "fenced")
	// After a reboot the writers have run: what is asked for under the same name is over, and another one begins anew.
	again := fenceIn(t, dir, "boot-2")
	again.claims(t, "lapsed")
	again.wantNow(t, keepIt)
	again.claims(t, "lapsed")
	again.wantNow(t, protocol.AgentOrder{Fence: true, FenceID: "job-2"})
	again.claims(t, "fenced")
	wantTrace(t, dir, "fence fence")
}

// A fence that is kept is one after a reboot, too: the target has taken over.
func TestAFenceThatIsKeptDoesNotLapse(t *testing.T) {
	dir := t.TempDir()
	f := fenceIn(t, dir, "boot-1")
	f.wantNow(t, fenceIt)
	f.wantNow(t, keepIt)
	f.claims(t, "kept")
	f.now = func() time.Duration { return uptime.Now() + 2*time.Hour }
	f.wantNow(t, keepIt)
	f.claims(t, "kept")
	again := fenceIn(t, dir, "boot-2")
	again.claims(t, "")
	again.wantNow(t, keepIt)
	again.wantNow(t, keepIt)
	again.claims(t, "kept")
	again.wantNow(t, release)
	again.claims(t, "")
	wantTrace(t, dir, "fence fence unfence")
}

// A fence lapses when its time is over, with or without a controller and after a restart of the agent; then it is not kept, and not begun again.
func TestAFenceThatHasLapsedIsNeitherKeptNorBegunAgain(t *testing.T) {
	dir := t.TempDir()
	f := fenceIn(t, dir, "boot-1")
	f.wantNow(t, fenceIt)
	for _, f := range []*fence{f, fenceIn(t, dir, "boot-1")} {
		f.claims(t, "fenced")
	}
	next := fenceIn(t, dir, "boot-1")
	next.now = func() time.Duration { return uptime.Now() + 2*time.Hour }
	ctx, cancel := context.WithCancel(t.Context())
	lapsed := make(chan struct{}, 1)
	next.told(func() { lapsed <- struct{}{} })
	var watching sync.WaitGroup
	watching.Go(func() { next.watch(ctx) })
	<-lapsed
	cancel()
	watching.Wait()
	next.told(func() {})
	next.claims(t, "lapsed")
	next.wantNow(t, keepIt)
	next.claims(t, "lapsed")
	fenceIn(t, dir, "boot-1").claims(t, "lapsed")
	wantTrace(t, dir, "fence unfence")
	next.wantNow(t, release)
	next.claims(t, "")
	next.wantNow(t, protocol.AgentOrder{Fence: true, FenceID: "job-2"})
	next.claims(t, "fenced")
	wantTrace(t, dir, "fence unfence fence")
}

// A release that failed half way may have let writers go, so nothing is claimed; and it is still due, also for the next agent.
func TestAReleaseThatFailsIsNeitherClaimedNorForgotten(t *testing.T) {
	dir := t.TempDir()
	f := fenceIn(t, dir, "boot-1")
	f.wantNow(t, fenceIt)
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.wantNow(t, release)
	f.claims(t, "")
	if f.problem == nil {
		t.Error("a failed hook is no problem")
	}
	if err := os.Remove(filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	next := fenceIn(t, dir, "boot-1")
	next.claims(t, "")
	next.wantNow(t, release)
	next.wantNow(t, release) // done: not again
	wantTrace(t, dir, "fence unfence unfence")
}
