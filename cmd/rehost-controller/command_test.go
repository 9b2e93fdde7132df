package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehost/internal/hint"
	"rehost/internal/program"
)

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args string
		code int
		err  string
	}{
		{"version", 0, ""},
		{"", 2, "no command given"},
		{"start", 2, `unknown command "start"`},
		{"run --conf x", 2, "unknown flag"},
		{"run now", 2, "rehost-controller run takes no argument"},
		{"check --config", 2, "needs an argument"},
		{"check --config /nonexistent/controller.hcl", 1, "/nonexistent/controller.hcl"},
	} {
		var stdout bytes.Buffer
		err := run(t.Context(), strings.Fields(tt.args), &stdout, io.Discard)
		if tt.err == "" {
			if err != nil || stdout.Len() == 0 {
				t.Errorf("%s: got %q, %v", tt.args, stdout.String(), err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.err) || program.IsUsage(err) != (tt.code == 2) || hint.Of(err) == "" {
			t.Errorf("%q: got %v with hint %q, want %q with exit code %d and a hint", tt.args, err, hint.Of(err), tt.err, tt.code)
		}
	}
}

func TestCheckSaysThatTheCloudDoesNotAnswer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "controller.hcl")
	text := "cloud {\n  region   = \"local-1\"\n  endpoint = \"http://127.0.0.1:1\"\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "a")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "b")
	err := run(t.Context(), []string{"check", "--config", path}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(hint.Of(err), "endpoint") || program.IsUsage(err) {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}
