package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehost/internal/command"
)

// What an agent brings to a source host is kept small: no cloud, no server, no other role.
func TestTheAgentCarriesNeitherCloudNorServer(t *testing.T) {
	out, err := command.Run(t.Context(), "go", "list", "-deps", ".")
	if err != nil {
		t.Fatal(err)
	}
	banned := map[string]string{
		"github.com/aws/":                 "a source host has nothing to say to the cloud",
		"github.com/nats-io/nats-server/": "nothing listens on a source host",
		"rehost/controller":               "roles talk through protocol",
		"rehost/replicaserver":            "roles talk through protocol",
		"rehost/localcloud":               "roles talk through protocol",
		"rehost/internal/cloud":           "a source host has nothing to say to the cloud",
	}
	for pkg := range strings.Lines(string(out)) {
		for prefix, why := range banned {
			if strings.HasPrefix(pkg, prefix) {
				t.Errorf("the agent depends on %s: %s", strings.TrimSpace(pkg), why)
			}
		}
	}
}

func TestTheAgentIsSmall(t *testing.T) {
	const limit = 16 << 20
	path := filepath.Join(t.TempDir(), "rehost-agent")
	t.Setenv("CGO_ENABLED", "0")
	if _, err := command.Run(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "."); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > limit {
		t.Errorf("the agent is %d bytes, want at most %d", info.Size(), limit)
	}
}
