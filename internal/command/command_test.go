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

func TestAskKeepsTheLastLine(t *testing.T) {
	for script, want := range map[string]string{
		"echo one; echo two >&2; echo": "two",
		"printf 'half\\rwhole'":        "whole",
		"true":                         "",
		"i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done": "19999",
		"printf '\\377bad'": "?bad",
		`printf "$A"`:       "its own",
	} {
		got, err := Ask(t.Context(), []string{"A=its own"}, "/bin/sh", "-c", script)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v, want %q", script, got, err, want)
		}
	}
	if got, err := Ask(t.Context(), nil, "/bin/sh", "-c", "echo no; exit 3"); err == nil || got != "no" {
		t.Errorf("a program that fails: got %q, %v", got, err)
	}
}
