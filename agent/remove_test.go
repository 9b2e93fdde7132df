package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehost/internal/hint"
	"rehost/internal/lock"
)

func TestAnAgentThatRunsIsNotRemoved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, as the agent does")
	}
	dir := t.TempDir()
	cfg := Config{Server: "web-1", RunDir: filepath.Join(dir, "run"), StateDir: dir, PinDir: filepath.Join(dir, "pins")}
	release, err := lock.Take(t.Context(), cfg.lockPath(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.identityPath(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "it runs") || hint.Of(err) == "" {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
	if _, err := os.Stat(cfg.identityPath()); err != nil {
		t.Error("the identity of an agent that runs is gone")
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := Remove(t.Context(), cfg); err != nil {
		t.Errorf("remove the agent that was stopped: %v", err)
	}
	if _, err := os.Stat(cfg.identityPath()); err == nil {
		t.Error("the identity is still there")
	}
}
