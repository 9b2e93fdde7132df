package cli

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"rehost/internal/config"
	"rehost/protocol"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"rehost": func() {
		env := System()
		env.Poll = 10 * time.Millisecond
		exit(Main(context.Background(), env, args()))
	}})
}

// commands are what transcripts have beside testscript's own: "code N program ..." runs a program that must end with N.
func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"code": func(ts *testscript.TestScript, _ bool, args []string) {
			want, err := strconv.Atoi(args[0])
			ts.Check(err)
			got := 0
			if err := ts.Exec(args[1], args[2:]...); err != nil {
				exit, ok := errors.AsType[*exec.ExitError](err)
				if !ok {
					ts.Fatalf("run %s: %v", args[1], err)
				}
				got = exit.ExitCode()
			}
			if got != want {
				ts.Fatalf("exit code %d, want %d", got, want)
			}
		},
	}
}

func TestTranscriptsWithoutAController(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/offline", Cmds: commands()})
}

func TestTranscriptsWithAController(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/online", Cmds: commands(),
		Setup: func(env *testscript.Env) error {
			// Each transcript has a controller of its own, which ends with it.
			file, _ := startFake(env.T().(testing.TB))
			env.Setenv("REHOST_CONTEXT", file)
			env.Setenv("TZ", "UTC")
			return nil
		},
	})
}

// buffer is written by a command and read by a test at the same time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func testEnv(contextFile, stdin string) (env Env, out, errOut *buffer) {
	out, errOut = &buffer{}, &buffer{}
	getenv := func(name string) string {
		if name == "REHOST_CONTEXT" {
			return contextFile
		}
		return ""
	}
	return Env{Stdin: strings.NewReader(stdin), Stdout: out, Stderr: errOut, Getenv: getenv, Width: 80, Poll: 10 * time.Millisecond}, out, errOut
}

func TestALostBusIsToldWithinFiveSeconds(t *testing.T) {
	file, server := startFake(t)
	env, _, errOut := testEnv(file, "")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int)
	go func() { ended <- Main(ctx, env, []string{"wave", "test", "slow"}) }()
	time.Sleep(300 * time.Millisecond)
	server.Close()
	start := time.Now()
	for !strings.Contains(errOut.String(), "lost contact with the controller") {
		if time.Since(start) > 5*time.Second {
			t.Fatalf("not told within 5 s; standard error: %q", errOut.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	cancel()
	if code := <-ended; code != exitFailure {
		t.Errorf("exit code %d, want %d", code, exitFailure)
	}

	start = time.Now()
	env, _, errOut = testEnv(file, "")
	if code := Main(t.Context(), env, []string{"status"}); code != exitFailure {
		t.Errorf("status without a bus: exit code %d, want %d", code, exitFailure)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("status without a bus took %s", took)
	}
	if text := errOut.String(); strings.Count(text, "\n") != 2 || !strings.Contains(text, "error: ") || !strings.Contains(text, "hint: ") {
		t.Errorf("want one line of error and one of hint, got %q", text)
	}
}

func TestConfirmation(t *testing.T) {
	file, _ := startFake(t)
	for _, c := range []struct {
		name, answer string
		code         int
	}{{"typed", "first\n", exitOK}, {"something else", "yes\n", exitFailure}, {"nobody there", "", exitFailure}} {
		t.Run(c.name, func(t *testing.T) {
			env, out, errOut := testEnv(file, c.answer)
			if code := Main(t.Context(), env, []string{"wave", "cutover", "first"}); code != c.code {
				t.Fatalf("exit code %d, want %d; %s %s", code, c.code, out, errOut)
			}
			if aborted := strings.Contains(errOut.String(), "aborted, no changes made"); aborted == (c.code == exitOK) {
				t.Errorf("standard error: %q", errOut)
			}
			if started := strings.Contains(out.String(), "job job-"); started != (c.code == exitOK) {
				t.Errorf("standard output: %q", out)
			}
		})
	}
}

func TestStatusFits80Columns(t *testing.T) {
	file, _ := startFake(t)
	env, out, _ := testEnv(file, "")
	if code := Main(t.Context(), env, []string{"status"}); code != exitOK {
		t.Fatalf("exit code %d", code)
	}
	tables := 0
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, ": ") { // a sentence for people, as long as its words
			continue
		}
		tables++
		if n := len(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if tables < 5 {
		t.Errorf("found %d lines of tables", tables)
	}
}

func TestAnAgentFileIsReadyToUse(t *testing.T) {
	path := t.TempDir() + "/agent.hcl"
	text := agentFile("web-1", "/etc/rehost", []string{"/dev/sda", "/dev/disk/by-id/x"}, []string{"tls://bus.example.com:4222"})
	if err := writePrivate(path, []byte(text)); err != nil {
		t.Fatal(err)
	}
	got, err := config.LoadAgent(path)
	if err != nil {
		t.Fatal(err)
	}
	want := config.DefaultAgent()
	want.Server, want.Disks = "web-1", []string{"/dev/sda", "/dev/disk/by-id/x"}
	want.Bus = config.BusClient{Servers: []string{"tls://bus.example.com:4222"}, CAFile: "/etc/rehost/ca.pem"}
	want.TokenFile = "/etc/rehost/token"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestATerminalGetsALiveLine(t *testing.T) {
	env, out, _ := testEnv("", "")
	env.Terminal = true
	line := newTimeline(env)
	line.now = func() time.Time { return epoch.Add(12 * time.Second) }
	job := protocol.Job{Servers: []protocol.JobServer{{Server: "web-1", Steps: []protocol.JobStep{
		{Name: "convert", Status: protocol.StepInProgress, Started: epoch, Detail: "booting the appliance"},
	}}}}
	if err := line.show(job); err != nil {
		t.Fatal(err)
	}
	if want := "  ... web-1 convert 12s booting the appliance"; out.String() != want {
		t.Errorf("got %q, want %q", out, want)
	}
	job.Servers[0].Steps[0].Status, job.Servers[0].Steps[0].Ended = protocol.StepSucceeded, epoch.Add(14*time.Second)
	if err := line.show(job); err != nil {
		t.Fatal(err)
	}
	if rest := strings.TrimPrefix(out.String(), "  ... web-1 convert 12s booting the appliance"); !strings.HasPrefix(rest, "\r\x1b[K") || !strings.Contains(rest, "ok") {
		t.Errorf("the live line was not replaced: %q", rest)
	}
}
