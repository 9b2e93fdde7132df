package guest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestNewFilesHaveTheLabelOfTheirFolder is what a guest that enforces its policy needs to read them.
func TestNewFilesHaveTheLabelOfTheirFolder(t *testing.T) {
	dir := t.TempDir()
	etc := filepath.Join(dir, "etc")
	if err := errors.Join(os.Mkdir(etc, 0o755), os.WriteFile(filepath.Join(etc, "old"), []byte("a"), 0o600), os.Mkdir(filepath.Join(dir, "plain"), 0o755)); err != nil {
		t.Fatal(err)
	}
	const ofEtc, ofOld = "system_u:object_r:etc_t:s0\x00", "system_u:object_r:shadow_t:s0\x00"
	err := errors.Join(unix.Setxattr(etc, selinuxLabel, []byte(ofEtc), 0), unix.Setxattr(filepath.Join(etc, "old"), selinuxLabel, []byte(ofOld), 0))
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
		t.Skipf("no security attributes here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	for _, name := range []string{"/etc/new", "/etc/a/b/new", "/etc/old", "/plain/new"} {
		s, err := r.Stage(name, strings.NewReader("text"), 0o644)
		if err == nil {
			err = s.Commit()
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := r.Symlink("/dev/null", "/etc/a/link"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"/etc": ofEtc, "/etc/a/none/none": ofEtc, "/plain/none": "", "/": ""} {
		if got, err := r.Label(name); err != nil || got != strings.TrimRight(want, "\x00") {
			t.Errorf("the folder %s has the label %q (%v), want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"etc/new": ofEtc, "etc/a": ofEtc, "etc/a/b": ofEtc, "etc/a/b/new": ofEtc, "etc/a/link": ofEtc, "etc/old": ofOld, "plain/new": "",
	} {
		value := make([]byte, 256)
		n, err := unix.Lgetxattr(filepath.Join(dir, name), selinuxLabel, value)
		if errors.Is(err, unix.ENODATA) {
			n, err = 0, nil
		}
		if err != nil || string(value[:n]) != want {
			t.Errorf("%s has the label %q (%v), want %q", name, value[:n], err, want)
		}
	}
}
