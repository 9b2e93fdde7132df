package command

import (
	"strings"
	"testing"

	"rehost/internal/hint"
)

func TestRunReturnsOutputOrTheProgramsLastWords(t *testing.T) {
	out, err := Run(t.Context(), "echo", "hello")
	if err != nil || string(out) != "hello\n" {
		t.Fatalf("got %q, %v", out, err)
	}
	_, err = Run(t.Context(), "ls", "/does/not/exist")
	if err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Fatalf("got %v, want the program's own words", err)
	}
}

func TestRunOfAMissingProgramHints(t *testing.T) {
	_, err := Run(t.Context(), "no-such-program-here")
	if err == nil || hint.Of(err) == "" {
		t.Fatalf("got %v with hint %q", err, hint.Of(err))
	}
}
