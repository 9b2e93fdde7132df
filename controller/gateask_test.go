package controller

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// programs are what a gate may run here, by name.
var programs = map[string]string{
	"yes":    "exit 0",
	"no":     "echo looking\necho $1 is not open\nexit 3",
	"silent": "exit 4",
	"hangs":  "sleep 1000 & sleep 1000",
	"floods": "while :; do echo waiting; done",
	"tells":  `echo "$REHOST_WAVE:$REHOST_SERVERS:$HOME:$(id -u)" >&2; exit 1`,
}

// pages answers, hangs, or never stops.
func pages(t *testing.T) string {
	t.Helper()
	over := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/open":
			_, _ = rw.Write([]byte("the change is open"))
		case "/hangs":
			<-over
		case "/huge":
			line := []byte(strings.Repeat("no\n", 1<<14))
			for err := error(nil); err == nil; {
				_, err = rw.Write(line)
			}
		default:
			rw.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(func() { close(over); s.Close() })
	return s.URL
}

// TestGatesAskProgramsAndPages that answer, refuse, hang and never stop: each has one answer.
func TestGatesAskProgramsAndPages(t *testing.T) {
	w := newWorld(t)
	w.gateCommands = t.TempDir()
	for name, text := range programs {
		if err := os.WriteFile(filepath.Join(w.gateCommands, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil { //nolint:gosec // it is to be run
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(w.gateCommands, "text"), []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer w.controller(t.Context())()
	w.tested()
	w.awaitState(protocol.ReadyForCutover)
	const limit = time.Second
	command := func(name string, argv ...string) protocol.CommandGateSettings {
		return protocol.CommandGateSettings{Name: name, Argv: argv, Timeout: limit}
	}
	at := pages(t)
	page := func(name, url string) protocol.PageGateSettings {
		return protocol.PageGateSettings{Name: name, URL: url, Status: 200, Contains: "open", Timeout: limit}
	}
	asks := protocol.GateSettings{
		Commands: []protocol.CommandGateSettings{
			command("yes", "yes"), command("no", "no", "CHG-4711; true"), command("silent", "silent"), command("hangs", "hangs"), command("floods", "floods"),
			command("tells", "tells"), command("missing", "missing"), command("text", "text"), command("outside", "../../bin/true"), command("nothing"),
		},
		Pages: []protocol.PageGateSettings{
			page("open", at+"/open"), page("hangs", at+"/hangs"), page("huge", at+"/huge"), page("other", at+"/other"), page("secrets", "http://169.254.169.254/latest/meta-data/"),
		},
	}
	warnings := w.warnings(w.gatedFleet(asks))
	for _, want := range []string{"command missing of wave one cannot open: there is no ", "command outside of wave one cannot open: \"../../bin/true\" is not the name of a file in "} {
		if !strings.Contains(warnings, want) {
			t.Errorf("no warning %q in %s", want, warnings)
		}
	}
	starter := person{w, "test", w.operator}
	want := []string{
		"command no: CHG-4711; true is not open",
		"command silent: it says nothing, and ends with exit status 4",
		"command hangs: it has not answered within 1s",
		"command floods: it has not answered within 1s",
		"command tells: one:web-1::" + strconv.Itoa(os.Getuid()),
		"command missing: there is no " + w.gateCommands + "/missing on the controller's machine",
		"command text: " + w.gateCommands + "/text on the controller's machine is no program",
		"command outside: \"../../bin/true\" is not the name of a file in " + w.gateCommands,
		"command nothing: \"\" is not the name of a file in " + w.gateCommands,
		"http hangs: it has not answered within 1s",
		"http huge: " + at + "/huge answers a page without \"open\"",
		"http other: " + at + "/other answers 418 I'm a teapot, wanted 200",
		"http secrets: Get \"http://169.254.169.254/latest/meta-data/\": dial tcp 169.254.169.254:80: 169.254.169.254 is not asked: metadata of the controller's own machine may be there",
	}
	if diff := cmp.Diff(want, starter.closed()); diff != "" {
		t.Errorf("closed gates (-want +got):\n%s", diff)
	}
	_, err := starter.cutover()
	wantRefused(t, "a cutover", err, "gates of wave one are closed: command no (CHG-4711; true is not open)")
	asks.Commands, asks.Pages = asks.Commands[:1], asks.Pages[:1]
	w.apply(w.gatedFleet(asks))
	job, err := starter.cutover()
	starter.must(err)
	wantSucceeded(t, w.awaitJob(job.ID))
}

// TestAControllerRunsNoCommandsUnlessItsFileNamesThem so that who may apply a configuration may not run programs there.
func TestAControllerRunsNoCommandsUnlessItsFileNamesThem(t *testing.T) {
	w := newWorld(t)
	defer w.controller(t.Context())()
	f := w.gatedFleet(protocol.GateSettings{Commands: []protocol.CommandGateSettings{{Name: "any", Argv: []string{"true"}, Timeout: time.Second}}})
	if got, want := w.warnings(f), "gate command any of wave one cannot open: this controller runs no commands: gate_commands in its controller.hcl names no folder"; !strings.Contains(got, want) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	if got := strings.Join((person{w, "test", w.operator}).closed(), "|"); !strings.HasPrefix(got, "command any: this controller runs no commands") {
		t.Errorf("closed: %s", got)
	}
}
