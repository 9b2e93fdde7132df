package cli

import (
	"context"
	"strings"
	"testing"
	"time"
)

// On a terminal the page is painted anew, with a bar for each server that is synced, until somebody ends it.
func TestAWatchIsALiveView(t *testing.T) {
	file, _ := startFake(t)
	env, out, errOut := testEnv(file, "")
	env.Terminal = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int, 1)
	go func() { ended <- Main(ctx, env, []string{"status", "--watch"}) }()
	for !strings.Contains(out.String(), "CONTINUOUS") {
		select {
		case code := <-ended:
			t.Fatalf("it ended with %d: %s", code, errOut)
		case <-time.After(10 * time.Millisecond):
		}
	}
	cancel()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d: %s", code, errOut)
	}
	pages := strings.Split(out.String(), "\x1b[H\x1b[J")[1:]
	if len(pages) < 3 {
		t.Fatalf("%d pages", len(pages))
	}
	if !strings.Contains(pages[1], "web-1  [") || !strings.Contains(pages[1], "25 %") {
		t.Errorf("the second page has no bar: %s", pages[1])
	}
}
