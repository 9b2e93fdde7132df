package main

import (
	"bytes"
	"strings"
	"testing"

	"rehost/internal/hint"
	"rehost/internal/program"
)

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{nil, {"apply"}, {"run", "now"}, {"--nonsense"}} {
		var out bytes.Buffer
		if err := run(t.Context(), args, &out); err == nil || !program.IsUsage(err) || hint.Of(err) == "" {
			t.Errorf("%v: got %v, want exit code 2", args, err)
		}
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, &out); err != nil || !strings.HasPrefix(out.String(), "rehost-convert ") {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestLackingProgramsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var out bytes.Buffer
	err := run(t.Context(), []string{"check"}, &out)
	if err == nil || !strings.Contains(err.Error(), "cryptsetup") || !strings.Contains(hint.Of(err), "cryptsetup-bin") {
		t.Errorf("got %v with hint %q", err, hint.Of(err))
	}
}
