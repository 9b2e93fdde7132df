package convert

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rehost/internal/command"
	"rehost/protocol"
)

// TestScriptsOfTheFirstBoot runs the script as the unit does, in a folder that stands for the guest.
func TestScriptsOfTheFirstBoot(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"var/lib", "boot/post_launch/folder", "usr/lib/rehost/first-boot.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("boot/post_launch/20 second", "#!/bin/sh\necho second here\nexit 3\n", 0o755)
	write("boot/post_launch/10-first", "#!/bin/sh\necho first here\n", 0o755)
	write("boot/post_launch/30-readme", "not to be run\n", 0o644)
	write("usr/lib/rehost/first-boot.d/01-join", "#!/bin/sh\necho joined\n", 0o755)
	write("usr/lib/rehost/first-boot.d/02-slow", "#!/bin/sh\necho slow\nexec sleep 1000\n", 0o755)
	scripts := []protocol.Script{{Name: "join"}, {Name: "slow", Timeout: 100 * time.Millisecond}}
	write("first-boot", firstBootScriptText([]string{firstBootFolder + "/01-join", firstBootFolder + "/02-slow"}, scripts), 0o644)
	run := func() string {
		t.Helper()
		out, err := command.Run(t.Context(), "env", "REHOST_ROOT="+root, "/bin/sh", filepath.Join(root, "first-boot"))
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	want := "rehost: first boot: 10-first begins\nfirst here\nrehost: first boot: 10-first ended with 0\n" +
		"rehost: first boot: 20 second begins\nsecond here\nrehost: first boot: 20 second ended with 3\n" +
		"rehost: first boot: 01-join begins\njoined\nrehost: first boot: 01-join ended with 0\n" +
		"rehost: first boot: 02-slow begins\nslow\nrehost: first boot: 02-slow ended with 124\nrehost: first boot: done, 2 failed\n"
	if got := run(); got != want {
		t.Errorf("it said %q, want %q", got, want)
	}
	if got := run(); got != "" {
		t.Errorf("the second time it said %q", got)
	}
}

func TestAGuestWithoutSystemdHasNoFirstBoot(t *testing.T) {
	p := &planner{facts: Facts{Files: map[string]File{postLaunch: {}}}}
	if err := p.firstBoot(); err != nil || len(p.edits) > 0 || len(p.findings) != 1 || p.findings[0].Severity != protocol.SeverityWarning || !strings.Contains(p.findings[0].Message, postLaunch) {
		t.Errorf("%v, %+v, %+v", err, p.edits, p.findings)
	}
}

// The scripts are in the guest in their order, and those of an earlier conversion are not.
func TestScriptsOfTheLaunchSettings(t *testing.T) {
	files := debian(t)
	files["usr/lib/systemd/systemd"] = "ELF"
	dir, root := newGuest(t, files)
	convertWith := func(names ...string) string {
		t.Helper()
		set := protocol.ConversionSettings{Scripts: []protocol.Script{{Name: "earlier", Phase: protocol.ScriptAfterConversion, Content: "#!/bin/sh\n"}}}
		for _, n := range names {
			set.Scripts = append(set.Scripts, protocol.Script{Name: n, Phase: protocol.ScriptFirstBoot, Content: "#!/bin/sh\necho " + n + "\n"})
		}
		plan, err := planFor(t, root, set)
		if err == nil {
			_, err = Apply(root, plan)
		}
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		entries, err := os.ReadDir(filepath.Join(dir, firstBootFolder))
		for _, e := range entries {
			info, err := e.Info()
			if err != nil || info.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
			}
			found = append(found, e.Name())
		}
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Join(found, " ")
	}
	if got, want := convertWith("zeta", "alpha"), "01-zeta 02-alpha"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := convertWith("../../alpha $(reboot)"), "01-alpha___reboot_"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
