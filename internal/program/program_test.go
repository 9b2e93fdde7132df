package program

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"rehost/internal/hint"
)

// TestMain plays a program that cleans up for a while after the signal.
func TestMain(m *testing.M) {
	if os.Getenv("PLAY_PROGRAM") == "" {
		os.Exit(m.Run())
	}
	os.Exit(Run(os.Stderr, func(ctx context.Context) error {
		_, _ = io.WriteString(os.Stdout, "runs\n")
		<-ctx.Done()
		time.Sleep(300 * time.Millisecond)
		_, _ = io.WriteString(os.Stdout, "cleaned\n")
		return nil
	}))
}

func TestASecondSignalOfTheSameMomentDoesNotCutTheCleanUpShort(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PLAY_PROGRAM=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("runs\n"))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		rest, err := io.ReadAll(out)
		if err != nil || string(rest) != "cleaned\n" {
			t.Errorf("%s twice: said %q, %v", sig, rest, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s twice: %v", sig, err)
		}
	}
}

// placed is an error with more to show.
type placed struct{}

func (placed) Error() string { return "long story" }
func (placed) Explain(w io.Writer) (string, error) {
	_, err := io.WriteString(w, "file:1: all of it\n")
	return "1 problem", err
}

func TestReport(t *testing.T) {
	for want, err := range map[string]error{
		"error: a\n":                            errors.New("a"),
		"error: a\nhint: do b\n":                hint.New("a", "do  b"),
		"error: a; b\nhint: do a\n":             errors.Join(hint.New("a", "do a"), errors.New("b")),
		"error: its last words: x; y\n":         errors.New("its last words:\n x\ny\n"), //nolint:revive // what an error of another program may look like
		"file:1: all of it\nerror: 1 problem\n": placed{},
		"error: c takes no argument, and \"x\" is one\nhint: see c --help\n": TooMuch("c", "x"),
	} {
		var out bytes.Buffer
		if Report(&out, err); out.String() != want {
			t.Errorf("got %q, want %q", out.String(), want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for want, err := range map[int]error{0: nil, 1: errors.New("a"), 2: Usage(errors.New("a"))} {
		var out strings.Builder
		if got := Run(&out, func(context.Context) error { return err }); got != want || (out.Len() == 0) != (err == nil) {
			t.Errorf("%v: exit code %d, said %q", err, got, out.String())
		}
	}
}
