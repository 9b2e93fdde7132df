// Package cloudtest runs a real local cloud for tests. It is never part of a binary.
package cloudtest

import (
	"context"
	"os"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/hint"
	"rehost/localcloud"
)

// Start runs a local cloud until the test ends or stop is called, which waits for its end. Its log is the test's, from the level
// on; fault, if not nil, is told of each trouble that a caller meets. Without root, the test is skipped.
func Start(t *testing.T, cfg localcloud.Config, level hclog.Level, fault func(action, kind string)) (info localcloud.Info, stop func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a loop device")
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan localcloud.Info, 1), make(chan error, 1)
	deps := localcloud.Deps{
		Log:   hclog.New(&hclog.LoggerOptions{Output: t.Output(), Level: level}),
		Ready: func(i localcloud.Info) { ready <- i }, Fault: fault,
	}
	go func() { ended <- localcloud.Run(ctx, cfg, deps) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("local cloud: %v (hint: %s)", err, hint.Of(err))
		}
	})
	t.Cleanup(stop)
	select {
	case info = <-ready:
		return info, stop
	case err := <-ended:
		ended <- nil
		t.Fatalf("local cloud: %v (hint: %s)", err, hint.Of(err))
	}
	return info, stop
}
