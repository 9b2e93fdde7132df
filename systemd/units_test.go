// Package systemd holds the units of the daemons; its tests hold them to what systemd itself says of them.
package systemd

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rehost/internal/command"
)

// exposure is the worst score that each unit may have in "systemd-analyze security", in tenths: it may
// only get better. The agent freezes the host's filesystems, which forbids a mount namespace of its own.
var exposure = map[string]string{
	"rehost-agent.service":         "72",
	"rehost-replicaserver.service": "25",
	"rehost-controller.service":    "25",
	"rehost-bus.service":           "25",
	"rehost-convert.service":       "72",
}

// bus has no configuration to check: it is a command of the controller's program.
const bus = "rehost-bus.service"

// staged writes the units to a folder with their programs' paths made to exist.
func staged(t *testing.T) map[string]string {
	t.Helper()
	analyze(t)
	dir := t.TempDir()
	paths := map[string]string{}
	for name := range exposure {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		program := strings.TrimSuffix(name, ".service")
		wanted := []string{"\nExecStart=/usr/bin/" + program + " run", "\nExecStartPre=/usr/bin/" + program + " check"}
		if name == bus {
			program, wanted = "rehost-controller", []string{"\nExecStart=/usr/bin/rehost-controller bus"}
		}
		for _, line := range wanted {
			if !strings.Contains(string(text), line) {
				t.Errorf("%s has no %s", name, strings.TrimSpace(line))
			}
		}
		if err := os.Symlink("/bin/true", filepath.Join(dir, program)); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		paths[name] = filepath.Join(dir, name)
		if err := os.WriteFile(paths[name], []byte(strings.ReplaceAll(string(text), "/usr/bin/"+program, filepath.Join(dir, program))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// analyze fails where systemd is not installed: scripts/install-packages installs it.
func analyze(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); errors.Is(err, exec.ErrNotFound) {
		t.Fatal("systemd-analyze is not installed: apt-get install systemd")
	}
}

func verify(t *testing.T, path string) error {
	t.Helper()
	_, err := command.Run(t.Context(), "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path)
	return err
}

func TestUnitsAreWhatSystemdExpects(t *testing.T) {
	for name, path := range staged(t) {
		if err := verify(t, path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAWrongUnitIsFound(t *testing.T) {
	path := staged(t)["rehost-agent.service"]
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), "Type=notify", "Type=notified", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if verify(t, path) == nil {
		t.Error("systemd-analyze accepts Type=notified")
	}
}

func TestUnitsAreHardened(t *testing.T) {
	for name, path := range staged(t) {
		out, err := command.Run(t.Context(), "systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+exposure[name], path)
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Logf("%s: %s", name, lines[len(lines)-1])
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheAgentKeepsTheHostsMounts(t *testing.T) {
	text, err := os.ReadFile("rehost-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	// Each of these gives a service a mount namespace of its own.
	own := []string{
		"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectKernelTunables", "ProtectKernelModules",
		"ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths",
		"TemporaryFileSystem", "RootDirectory", "DynamicUser", "MountFlags", "PrivateUsers", "ProcSubset",
	}
	for line := range strings.Lines(string(text)) {
		key, _, _ := strings.Cut(line, "=")
		for _, k := range own {
			if key == k {
				t.Errorf("%s takes the host's mounts away from the agent", strings.TrimSpace(line))
			}
		}
	}
}
