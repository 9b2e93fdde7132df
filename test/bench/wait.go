package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

const (
	poll      = 20 * time.Millisecond
	soonLimit = 20 * time.Second
)

// eventually waits for what comes within seconds.
func eventually(ctx context.Context, what string, ok func() bool) error {
	deadline := time.Now().Add(soonLimit)
	for !ok() {
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s after %s", what, soonLimit)
		}
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listens waits until something listens at an address.
func listens(ctx context.Context, address string) error {
	return eventually(ctx, "listener at "+address, func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
}

// sameNamespace says whether a process is in our network namespace.
func sameNamespace(pid string) bool {
	a, _ := os.Readlink("/proc/self/ns/net")
	b, err := os.Readlink("/proc/" + pid + "/ns/net")
	return err != nil || a == b
}

func fields(text string) []string { return strings.Fields(text) }
