package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file, or writes it with -update.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func diagnostics(t *testing.T, err error) []byte {
	t.Helper()
	var out bytes.Buffer
	printed, werr := WriteDiagnostics(&out, err, 0, false)
	if werr != nil {
		t.Fatal(werr)
	}
	if !printed {
		t.Fatalf("no diagnostics in %v", err)
	}
	return out.Bytes()
}

func TestInvalidFleets(t *testing.T) {
	files, err := filepath.Glob("testdata/invalid/*.hcl")
	if err != nil || len(files) < 40 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".hcl"), func(t *testing.T) {
			_, err := LoadFleet(file, nil)
			if err == nil {
				t.Fatal("no error")
			}
			golden(t, strings.TrimSuffix(file, ".hcl")+".want", diagnostics(t, err))
		})
	}
}

func TestDiagnosticsHaveTheSameOrderEachTime(t *testing.T) {
	_, err := LoadFleet("testdata/invalid/values.hcl", nil)
	first := diagnostics(t, err)
	for range 20 {
		_, err := LoadFleet("testdata/invalid/values.hcl", nil)
		if again := diagnostics(t, err); !bytes.Equal(first, again) {
			t.Fatalf("order changed:\n%s", cmp.Diff(string(first), string(again)))
		}
	}
}

func TestValidFleets(t *testing.T) {
	for _, dir := range []string{"testdata/valid/dynamic", "testdata/valid/defaults", "testdata/valid/launch", "../../configs/small", "../../configs/demo", "../../configs/typical"} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			fleet, err := LoadFleet(dir, nil)
			if err != nil {
				t.Fatalf("%s", diagnostics(t, err))
			}
			got, err := json.MarshalIndent(fleet, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata/valid", filepath.Base(dir)+".json"), append(got, '\n'))
		})
	}
}

func TestDefaultsFillWhatIsAbsent(t *testing.T) {
	got, err := LoadFleet("testdata/valid/defaults", nil)
	if err != nil {
		t.Fatal(err)
	}
	replication, launch, server := DefaultReplication(), DefaultLaunch(), DefaultServer()
	web, screen := DefaultCheck("http"), DefaultCheck("console")
	replication.Name, launch.Name, web.Name, screen.Name = "default", "default", "web", "01-screen"
	join := DefaultAction()
	join.Name, join.Content = "join", "#!/bin/sh\n"
	server.Name, server.Checks = "a", []string{"web", "01-screen"}
	wave := DefaultWave()
	wave.Name, wave.Applications = "a", []string{"a"}
	want := protocol.Fleet{
		Replications: []protocol.ReplicationSettings{replication},
		Launches:     []protocol.LaunchSettings{launch},
		Servers:      []protocol.ServerSettings{server},
		Applications: []protocol.ApplicationSettings{{Name: "a", Servers: []string{"a"}}},
		Waves:        []protocol.WaveSettings{wave},
		Checks:       []protocol.CheckSettings{web, screen},
		Actions:      []protocol.ActionSettings{join},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestVariablesFromTheCaller(t *testing.T) {
	fleet, err := LoadFleet("testdata/valid/dynamic", map[string]string{"prefix": "go"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fleet.Replications[0].Tags["wave"]; got != "go-1" {
		t.Errorf("tag = %q, want go-1", got)
	}
	_, err = LoadFleet("testdata/valid/dynamic", map[string]string{"prefx": "go"})
	if err == nil || !strings.Contains(string(diagnostics(t, err)), "Did you mean prefix?") {
		t.Errorf("unknown variable: got %v", err)
	}
}

func TestExamplesSayTheDefaults(t *testing.T) {
	// The small example with every commented line of it taken in must be the same fleet.
	text, err := os.ReadFile("../../configs/small/fleet.hcl")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := LoadFleet("../../configs/small", nil)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "fleet.hcl")
	if err := os.WriteFile(file, []byte(uncomment(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
	full, err := LoadFleet(file, nil)
	if err != nil {
		t.Fatalf("%s", diagnostics(t, err))
	}
	if diff := cmp.Diff(plain, full); diff != "" {
		t.Errorf("a commented line is not the default (-default +commented):\n%s", diff)
	}
}

// uncomment takes in every commented attribute: lines such as "  # window = ...".
func uncomment(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		trimmed := strings.TrimLeft(line, " ")
		rest, commented := strings.CutPrefix(trimmed, "# ")
		if name, _, ok := strings.Cut(rest, "="); commented && ok && !strings.Contains(strings.TrimSpace(name), " ") {
			line = rest
		}
		out.WriteString(line)
	}
	return out.String()
}
