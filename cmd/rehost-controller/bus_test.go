package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/config"
	"rehost/internal/hint"
)

// TestABusThatOthersRun is reached with what was copied from its folder, and a controller makes its identity once.
func TestABusThatOthersRun(t *testing.T) {
	dir := t.TempDir()
	server, err := broker.Listen(t.Context(), broker.ServerConfig{Dir: dir, Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	b := config.ExternalBus{
		BusClient:    config.BusClient{Servers: server.Bus().Servers, CAFile: filepath.Join(dir, "none.pem")},
		IdentityFile: filepath.Join(t.TempDir(), "controller.json"), AuthorityDir: t.TempDir(),
	}
	if _, _, err := external(b); err == nil || !strings.Contains(hint.Of(err), "ca_file") {
		t.Errorf("no authority: got %v with hint %q", err, hint.Of(err))
	}
	b.CAFile = filepath.Join(dir, "ca.pem")
	if _, _, err := external(b); err == nil || !strings.Contains(hint.Of(err), "authority_dir") {
		t.Errorf("no keys: got %v with hint %q", err, hint.Of(err))
	}
	b.AuthorityDir = dir
	first, keys, err := external(b)
	if err != nil || keys == nil {
		t.Fatal(err)
	}
	nc, err := bus.Connect(t.Context(), first, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	second, _, err := external(b)
	if err != nil || second.Identity != first.Identity {
		t.Errorf("another identity: %v", err)
	}
	if info, err := os.Stat(b.IdentityFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
}
