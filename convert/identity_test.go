package convert

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/command"
	"rehost/protocol"
)

const oldID = "0123456789abcdef0123456789abcdef"

// identified is a Debian with all that tells a machine from others.
func identified(tb testing.TB) tree {
	tb.Helper()
	files := debian(tb)
	maps.Copy(files, tree{
		"usr/lib/systemd/systemd": "ELF", "usr/bin/ssh-keygen": "ELF",
		"etc/machine-id": oldID + "\n", "var/lib/dbus/machine-id": oldID + "\n",
		"etc/ssh/sshd_config":          "Port 22\n#HostKey /etc/ssh/ssh_host_rsa_key\nHostKey /etc/ssh/ssh_host_ed25519_key\n",
		"etc/ssh/ssh_host_ed25519_key": "private", "etc/ssh/ssh_host_ed25519_key.pub": "public", "etc/ssh/ssh_host_ed25519_key-cert.pub": "signed",
		"etc/ssh/ssh_known_hosts":           "others",
		"var/lib/dhcp/dhclient.leases":      "default-duid",
		"var/lib/systemd/random-seed":       "seed",
		"var/lib/systemd/credential.secret": "needed",
		"var/lib/NetworkManager/secret_key": "key", "var/lib/NetworkManager/internal-1-eth0.lease": "lease", "var/lib/NetworkManager/NetworkManager.state": "kept",
	})
	return files
}

func paths(files map[string]string) []string { return slices.Sorted(maps.Keys(files)) }

func TestIdentityIsKeptUnlessAnotherIsWanted(t *testing.T) {
	for _, identity := range []protocol.Identity{"", protocol.IdentityKeep} {
		dir, root := newGuest(t, identified(t))
		before := snapshot(t, dir)
		apply(t, root, protocol.ConversionSettings{Identity: identity})
		after := snapshot(t, dir)
		for _, p := range paths(before) {
			if name := strings.TrimPrefix(p, "/"); identified(t)[name] != debian(t)[name] && before[p] != after[p] {
				t.Errorf("identity %q: %s is %q", identity, p, after[p])
			}
		}
	}
}

// apply converts and returns the findings.
func apply(t *testing.T, root *Root, set protocol.ConversionSettings) []protocol.Finding {
	t.Helper()
	plan, err := planFor(t, root, set)
	if err == nil {
		_, err = Apply(root, plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	return plan.Findings
}

func TestNewIdentity(t *testing.T) {
	dir, root := newGuest(t, identified(t))
	before := snapshot(t, dir)
	set := protocol.ConversionSettings{Identity: protocol.IdentityNew}
	plan, err := planFor(t, root, set)
	if err != nil || strings.Contains(fmt.Sprintf("%+v", plan.Edits), "private") {
		t.Errorf("%v; the plan shows a key: %+v", err, plan.Edits)
	}
	apply(t, root, set)
	after := snapshot(t, dir)
	for _, gone := range []string{
		"/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_host_ed25519_key-cert.pub", "/var/lib/dhcp/dhclient.leases",
		"/var/lib/systemd/random-seed", "/var/lib/NetworkManager/secret_key", "/var/lib/NetworkManager/internal-1-eth0.lease",
	} {
		if _, there := after[gone]; there || before[gone] == "" {
			t.Errorf("%s: before %q, after %q", gone, before[gone], after[gone])
		}
	}
	for _, kept := range []string{"/etc/ssh/sshd_config", "/etc/ssh/ssh_known_hosts", "/var/lib/systemd/credential.secret", "/var/lib/NetworkManager/NetworkManager.state"} {
		if before[kept] == "" || after[kept] != before[kept] {
			t.Errorf("%s: before %q, after %q", kept, before[kept], after[kept])
		}
	}
	if id, err := os.ReadFile(filepath.Join(dir, "etc/machine-id")); err != nil || len(id) != 0 {
		t.Errorf("machine id %q, %v", id, err)
	}
	if link, err := os.Readlink(filepath.Join(dir, "var/lib/dbus/machine-id")); link != "/etc/machine-id" {
		t.Errorf("the machine id of D-Bus leads to %q, %v", link, err)
	}
	if again, err := planFor(t, root, set); err != nil || len(again.Edits) > 0 {
		t.Errorf("the second time: %+v, %v", again.Edits, err)
	}
	if err := Undo(root); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, snapshot(t, dir)); d != "" {
		t.Errorf("after the undo (-before +after):\n%s", d)
	}
}

// A guest that cannot make host keys keeps those that it has: without any, nobody could log in.
func TestHostKeysThatStay(t *testing.T) {
	for name, c := range map[string]struct {
		change func(tree)
		stays  string
		says   string
	}{
		"no ssh-keygen": {func(f tree) { delete(f, "usr/bin/ssh-keygen") }, "/etc/ssh/ssh_host_ed25519_key", "ssh-keygen"},
		"no systemd":    {func(f tree) { delete(f, "usr/lib/systemd/systemd") }, "/etc/ssh/ssh_host_ed25519_key", "no systemd"},
		"a key of another name": {func(f tree) {
			f["etc/ssh/sshd_config.d/own.conf"], f["etc/ssh/own_key"] = "hostkey /etc/ssh/own_key\n", "private"
		}, "/etc/ssh/own_key", "own_key stays"},
	} {
		files := identified(t)
		c.change(files)
		dir, root := newGuest(t, files)
		findings := apply(t, root, protocol.ConversionSettings{Identity: protocol.IdentityNew})
		if snapshot(t, dir)[c.stays] == "" {
			t.Errorf("%s: %s is gone", name, c.stays)
		}
		if !slices.ContainsFunc(findings, func(f protocol.Finding) bool {
			return f.Code == protocol.FindingIdentity && f.Severity == protocol.SeverityWarning && strings.Contains(f.Message, c.says)
		}) {
			t.Errorf("%s: got %+v", name, findings)
		}
	}
}

// Machine ids as they are found, and what becomes of them.
func TestMachineIDs(t *testing.T) {
	for name, c := range map[string]struct{ id, bus, want string }{
		"one of each":           {"x", "x", "edit /etc/machine-id, link /var/lib/dbus/machine-id"},
		"D-Bus alone":           {"", "x", "remove /var/lib/dbus/machine-id"},
		"none that is set":      {"\n", "", ""},
		"to be made at a first": {"uninitialized\n", "", ""},
	} {
		p := &planner{facts: Facts{Files: map[string]File{}}}
		for file, text := range map[string]string{machineID: c.id, busMachineID: c.bus} {
			if text != "" {
				p.facts.Files[file] = File{Data: []byte(text)}
			}
		}
		p.machineID()
		var got []string
		for _, e := range p.edits {
			got = append(got, e.Action+" "+e.Path)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: got %v, want %q", name, got, c.want)
		}
	}
}

func TestUnitOfTheHostKeys(t *testing.T) {
	dir := t.TempDir()
	unit := filepath.Join(dir, filepath.Base(hostKeysUnit))
	if err := os.WriteFile(unit, []byte(hostKeysUnitText), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := command.Run(t.Context(), "systemd-analyze", "verify", "--man=no", unit); err != nil {
		t.Error(err)
	}
}
