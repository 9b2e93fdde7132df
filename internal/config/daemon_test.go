package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInvalidDaemonFiles(t *testing.T) {
	loaders := map[string]func(string) error{
		"agent":      func(path string) error { _, err := LoadAgent(path); return err },
		"controller": func(path string) error { _, err := LoadController(path); return err },
	}
	for role, load := range loaders {
		files, err := filepath.Glob("testdata/" + role + "/*.hcl")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files for %s: %v", role, err)
		}
		for _, file := range files {
			t.Run(role+"/"+filepath.Base(file), func(t *testing.T) {
				err := load(file)
				if err == nil {
					t.Fatal("no error")
				}
				golden(t, strings.TrimSuffix(file, ".hcl")+".want", diagnostics(t, err))
			})
		}
	}
}

// exampleWithDefaults writes an example file with its commented lines taken in.
func exampleWithDefaults(t *testing.T, path string, leaveOut ...string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	full := uncomment(string(text))
	if full == string(text) {
		t.Fatalf("%s shows no defaults", path)
	}
	var kept strings.Builder
	for line := range strings.Lines(full) {
		skip := false
		for _, word := range leaveOut {
			skip = skip || strings.Contains(line, word)
		}
		if !skip {
			kept.WriteString(line)
		}
	}
	file := filepath.Join(t.TempDir(), "file.hcl")
	if err := os.WriteFile(file, []byte(kept.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAgentExample(t *testing.T) {
	want := DefaultAgent()
	want.Server, want.Disks = "web-1", []string{"/dev/sda"}
	want.Bus = BusClient{Servers: []string{"tls://bus.example.com:4222"}, CAFile: "/etc/rehost/ca.pem"}
	want.Hooks.Fence = []string{"/usr/bin/systemctl", "stop", "apache2"}
	want.Hooks.Unfence = []string{"/usr/bin/systemctl", "start", "apache2"}
	// An empty hook is no program, so the lines that show "none" cannot be taken in.
	for _, path := range []string{"../../configs/agent.hcl", exampleWithDefaults(t, "../../configs/agent.hcl", "pre_freeze", "post_thaw")} {
		got, err := LoadAgent(path)
		if err != nil {
			t.Fatalf("%s", diagnostics(t, err))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestControllerExample(t *testing.T) {
	want := DefaultController()
	want.Cloud.Region = "eu-central-1"
	want.ReplicaBus = []string{"tls://10.0.0.5:4222"}
	// The other kind of bus is commented too, as are whole blocks, and an empty path is no path.
	leaveOut := []string{"bus-1", "ca_file", "identity_file", "authority_dir", "credentials_file", "example.com/hook", "ops.secret", "job.*"}
	for _, path := range []string{"../../configs/controller.hcl", exampleWithDefaults(t, "../../configs/controller.hcl", leaveOut...)} {
		got, err := LoadController(path)
		if err != nil {
			t.Fatalf("%s", diagnostics(t, err))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestARoleOfTheTargetAccount(t *testing.T) {
	file := filepath.Join(t.TempDir(), "controller.hcl")
	text := `
bus {
  embedded {}
}
cloud {
  region      = "eu-central-1"
  role_arn    = "arn:aws:iam::123456789012:role/team/rehost-controller"
  external_id = "of-the-customer"
}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadController(file)
	if err != nil {
		t.Fatalf("%s", diagnostics(t, err))
	}
	want := Cloud{Region: "eu-central-1", RoleARN: "arn:aws:iam::123456789012:role/team/rehost-controller", ExternalID: "of-the-customer"}
	if diff := cmp.Diff(want, got.Cloud); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWebhooks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "controller.hcl")
	text := `
bus {
  embedded {}
}
cloud { region = "eu-central-1" }
webhook "ops" {
  url         = "https://example.com/hook?key=1"
  secret_file = "/etc/rehost/ops.secret"
  events      = ["server.*", "job.check_fail"]
}
webhook "all" {
  url         = "http://127.0.0.1:8080"
  secret_file = "/etc/rehost/all.secret"
}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadController(file)
	if err != nil {
		t.Fatalf("%s", diagnostics(t, err))
	}
	want := []Webhook{
		{Name: "ops", URL: "https://example.com/hook?key=1", SecretFile: "/etc/rehost/ops.secret", Events: []string{"server.*", "job.check_fail"}},
		{Name: "all", URL: "http://127.0.0.1:8080", SecretFile: "/etc/rehost/all.secret"},
	}
	if diff := cmp.Diff(want, got.Webhooks); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestExternalBus(t *testing.T) {
	file := filepath.Join(t.TempDir(), "controller.hcl")
	text := `
bus {
  servers       = ["tls://bus:4222"]
  ca_file       = "/etc/ca.pem"
  identity_file = "/etc/id.json"
  authority_dir = "/etc/authority"
}
cloud { region = "eu-central-1" }
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadController(file)
	if err != nil {
		t.Fatalf("%s", diagnostics(t, err))
	}
	want := ControllerBus{External: &ExternalBus{
		BusClient:    BusClient{Servers: []string{"tls://bus:4222"}, CAFile: "/etc/ca.pem"},
		IdentityFile: "/etc/id.json", AuthorityDir: "/etc/authority",
	}}
	if diff := cmp.Diff(want, got.Bus); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
