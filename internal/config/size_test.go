package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehost/internal/hint"
)

const heads = "replication \"default\" {}\nlaunch \"default\" {}\n"

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// generous is far beyond what loading takes, and below what a machine that is busy makes of it: only work that grows
// faster than its input takes so long.
const generous = 2 * time.Minute

// loadMany loads a fleet of n servers and says how long it took.
func loadMany(t *testing.T, path string, n int) {
	t.Helper()
	begin := time.Now()
	fleet, err := LoadFleet(path, nil)
	took := time.Since(begin)
	if err != nil {
		t.Fatalf("%.2000s", diagnostics(t, err))
	}
	if len(fleet.Servers) != n {
		t.Errorf("%d servers, want %d", len(fleet.Servers), n)
	}
	t.Logf("%d servers in %v", n, took)
	if took > generous {
		t.Errorf("took %v", took)
	}
}

func TestTenThousandServers(t *testing.T) {
	var text strings.Builder
	text.WriteString(heads)
	const n = 10_000
	for i := range n {
		fmt.Fprintf(&text, "server \"s-%d\" {\n  launch = launch.default\n  disks  = [\"/dev/sda\", \"/dev/sdb\"]\n}\n", i)
		fmt.Fprintf(&text, "application \"a-%d\" {\n  servers = [server.s-%d]\n}\n", i, i)
	}
	loadMany(t, write(t, "fleet.hcl", text.String()), n)
}

func TestTheExampleOfAThousandServers(t *testing.T) {
	loadMany(t, "../../configs/thousand", 1000)
	fleet, err := LoadFleet("../../configs/thousand", nil)
	if err != nil || len(fleet.Applications) != 200 || len(fleet.Waves) != 10 || len(fleet.Waves[0].Applications) != 20 {
		t.Errorf("%d applications, %d waves: %v", len(fleet.Applications), len(fleet.Waves), err)
	}
}

func TestACSVOfAHundredThousandRows(t *testing.T) {
	dir := t.TempDir()
	var rows strings.Builder
	rows.WriteString("name,type\n")
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&rows, "s-%d,t3.small\n", i)
	}
	for name, text := range map[string]string{
		"servers.csv": rows.String(),
		"fleet.hcl": heads + `
locals {
  rows = csvdecode(file("servers.csv"))
}
dynamic "server" {
  for_each = local.rows
  labels   = [server.value.name]
  content {}
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	loadMany(t, dir, n)
}

func TestTooMuchHCLIsRefusedBeforeItIsParsed(t *testing.T) {
	path := write(t, "fleet.hcl", heads+strings.Repeat("# fifty megabytes\n", 50<<20/18))
	begin := time.Now()
	_, err := LoadFleet(path, nil)
	if err == nil || !strings.Contains(err.Error(), "more than 16MiB of HCL") || !strings.Contains(hint.Of(err), "csvdecode") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the refusal took %v", took)
	}
}

func TestHCLInAnotherEncodingIsNamed(t *testing.T) {
	for text, want := range map[string]string{"\xff\xfea\x00": "UTF-16", "# M\xfcnchen\n": "latin1"} {
		_, err := LoadFleet(write(t, "fleet.hcl", text), nil)
		if err == nil || !strings.Contains(err.Error()+hint.Of(err), want) {
			t.Errorf("%q: got %v, hint %q", text, err, hint.Of(err))
		}
	}
}

func TestVariablesFromFiles(t *testing.T) {
	path := write(t, "fleet.hcl", "variable \"subnet\" {}\n"+`
replication "default" {
  subnet = var.subnet
}
`)
	first, last := write(t, "first", `subnet = "subnet-1"`), write(t, "last", `subnet = "subnet-2"`)
	for _, c := range []struct {
		flag  map[string]string
		files []string
		want  string
	}{
		{nil, []string{first}, "subnet-1"},
		{nil, []string{first, last}, "subnet-2"},
		{map[string]string{"subnet": "subnet-3"}, []string{first, last}, "subnet-3"},
	} {
		fleet, err := LoadFleet(path, c.flag, c.files...)
		if err != nil {
			t.Fatal(err)
		}
		if got := fleet.Replications[0].Subnet; got != c.want {
			t.Errorf("subnet = %q, want %q", got, c.want)
		}
	}
	_, err := LoadFleet(path, nil, write(t, "wrong", "subnt = 1"))
	if err == nil || !strings.Contains(string(diagnostics(t, err)), "Did you mean subnet?") {
		t.Errorf("unknown variable in a file: got %v", err)
	}
}

func TestFormatKeepsWhatCannotBeParsed(t *testing.T) {
	path := write(t, "a.hcl", "a   =  [1\n")
	if _, err := FormatFile(path, true); err == nil {
		t.Error("no error")
	}
	if got, _ := os.ReadFile(path); string(got) != "a   =  [1\n" {
		t.Errorf("the file is %q now", got)
	}
}
