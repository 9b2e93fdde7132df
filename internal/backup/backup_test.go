package backup_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rehost/internal/backup"
	"rehost/internal/hint"
	"rehost/protocol"
)

const content = `{"bucket":"rehost_servers","key":"web-1","value":{"name":"web-1"}}` + "\n"

func cutOf(text string) protocol.Cut {
	sum := sha256.Sum256([]byte(text))
	return protocol.Cut{ID: "c", At: time.Unix(1000, 0), Fleet: "f", Format: protocol.RecordFormat, Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])}
}

var keys = map[string][]byte{"authority.json": []byte("{}"), "ca.pem": []byte("cert"), "ca-key.pem": []byte("key")}

func write(t *testing.T, cut protocol.Cut) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := backup.Write(path, cut, strings.NewReader(content), keys, time.Now()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestABackupComesBackAsItWas(t *testing.T) {
	path := write(t, cutOf(content))
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	dir := t.TempDir()
	m, err := backup.Extract(path, dir)
	if err != nil || m.Cut.Fleet != "f" || len(m.Keys) != len(keys) {
		t.Fatalf("got %+v, %v", m, err)
	}
	for name, want := range map[string]string{backup.CutName: content, "authority.json": "{}", "ca.pem": "cert", "ca-key.pem": "key"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestWhatTheControllerDidNotSendWholeIsNoBackup(t *testing.T) {
	cut := cutOf(content)
	cut.SHA256 = strings.Repeat("0", 64)
	path := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := backup.Write(path, cut, strings.NewReader(content), nil, time.Now()); err == nil || hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestEveryByteOfABackupCounts cuts the file off at each place, and changes each of its bytes.
func TestEveryByteOfABackupCounts(t *testing.T) {
	path := write(t, cutOf(content))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(b []byte) error {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		_, err := backup.Extract(path, dir)
		if got, _ := os.ReadFile(filepath.Join(dir, backup.CutName)); err == nil && string(got) != content {
			t.Errorf("accepted with %q", got)
		}
		if err != nil && (!strings.Contains(err.Error(), path) || hint.Of(err) == "") {
			t.Errorf("got %v, hint %q", err, hint.Of(err))
		}
		return err
	}
	for n := range whole {
		if try(whole[:n]) == nil {
			t.Errorf("cut off after %d of %d bytes, and accepted", n, len(whole))
		}
	}
	accepted := 0 // what gzip's head says of itself, and bits that no code uses
	for n := range whole {
		b := bytes.Clone(whole)
		b[n] ^= 0x10
		if try(b) == nil {
			accepted++
		}
	}
	if accepted > 20 {
		t.Errorf("%d of %d changes were accepted", accepted, len(whole))
	}
}

func TestWhatIsNotABackupIsTold(t *testing.T) {
	gz := func(fill func(w *tar.Writer)) []byte {
		var b bytes.Buffer
		g := gzip.NewWriter(&b)
		w := tar.NewWriter(g)
		fill(w)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	file := func(w *tar.Writer, name, text string) {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		text []byte
		want string
	}{
		"text":        {[]byte("server \"web-1\" {}\n"), "is not a backup"},
		"empty":       {nil, "is not a backup"},
		"another tar": {gz(func(w *tar.Writer) { file(w, "etc/passwd", "root") }), "is not a backup"},
		"other JSON":  {gz(func(w *tar.Writer) { file(w, "manifest.json", `{"format":"rehost plan"}`) }), "is not a backup"},
		"a newer one": {gz(func(w *tar.Writer) { file(w, "manifest.json", `{"format":"rehost backup","version":2,"by":"v99"}`) }), "of a newer version: rehost v99 wrote format 2"},
		"newer records": {gz(func(w *tar.Writer) {
			file(w, "manifest.json", `{"format":"rehost backup","version":1,"cut":{"format":99,"version":"v98"}}`)
		}), "of a newer version: rehost v98 wrote format 99"},
		"more in it": {gz(func(w *tar.Writer) {
			file(w, "manifest.json", `{"format":"rehost backup","version":1,"keys":[{"name":"../../x"}]}`)
			file(w, "control-plane.jsonl", "")
		}), "was changed or is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "b")
			if err := os.WriteFile(path, tt.text, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := backup.Extract(path, t.TempDir()); err == nil || !strings.Contains(err.Error(), tt.want) || hint.Of(err) == "" {
				t.Errorf("got %v, hint %q", err, hint.Of(err))
			}
		})
	}
	if _, err := backup.Extract(filepath.Join(t.TempDir(), "none"), t.TempDir()); err == nil || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("no file: got %v", err)
	}
}

// TestAFullDiskLeavesTheBackupBefore writes to, and extracts onto, a filesystem of 64 KiB.
func TestAFullDiskLeavesTheBackupBefore(t *testing.T) {
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(small, "b.tar.gz")
	if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range 20000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		b.WriteString(hex.EncodeToString(sum[:]))
	}
	large := b.String()
	if err := backup.Write(path, cutOf(large), strings.NewReader(large), nil, time.Now()); err == nil || !strings.Contains(err.Error(), "no space") || hint.Of(err) == "" {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "before" {
		t.Errorf("what was there is %q now, %v", text, err)
	}
	if left, err := os.ReadDir(small); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	whole := filepath.Join(t.TempDir(), "b.tar.gz")
	if err := backup.Write(whole, cutOf(large), strings.NewReader(large), nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Extract(whole, small); err == nil || !strings.Contains(err.Error(), "no space") || !strings.Contains(hint.Of(err), "space") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}
