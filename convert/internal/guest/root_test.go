package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newRoot(t *testing.T, links map[string]string) (string, *Root) {
	t.Helper()
	dir := t.TempDir()
	for name, target := range links {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return dir, r
}

func TestResolveStaysInside(t *testing.T) {
	_, r := newRoot(t, map[string]string{
		"lib": "usr/lib", "abs": "/usr/lib", "up": "../../../usr", "root": "/", "d/rel": "../usr", "d/deep": "/lib/x", "loop": "loop",
		"usr/lib/self": ".", "dots": "/..//../etc/./passwd",
	})
	for name, want := range map[string]string{
		"/":                     "/",
		"/..":                   "/",
		"/../../etc/passwd":     "/etc/passwd",
		"/lib/modules":          "/usr/lib/modules",
		"/abs/x":                "/usr/lib/x",
		"/up/x":                 "/usr/x",
		"/root/root/lib/x":      "/usr/lib/x",
		"/d/rel/lib/self/self":  "/usr/lib",
		"/d/deep":               "/usr/lib/x",
		"/dots":                 "/etc/passwd",
		"//no//such/./../thing": "/no/thing",
	} {
		if got, err := r.Resolve(name); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := r.Resolve("/loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v, want ELOOP", err)
	}
	if got, err := r.Locate("/d/deep"); err != nil || got != "/d/deep" {
		t.Errorf("got %s, %v, want the link itself", got, err)
	}
}

func TestStagedFileAppearsAtCommit(t *testing.T) {
	dir, r := newRoot(t, map[string]string{"link": "/file"})
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o4711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "file"), 0o711|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	s, err := r.Stage("/link", strings.NewReader("new"), 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := r.ReadFile("/file", 100); string(got) != "old" {
		t.Errorf("got %q before the commit", got)
	}
	if err := errors.Join(r.Sync(), s.Commit(), r.Sync()); err != nil {
		t.Fatal(err)
	}
	if got, _ := r.ReadFile("/link", 100); string(got) != "new" {
		t.Errorf("got %q after the commit", got)
	}
	info, err := r.Stat("/file")
	if err != nil || info.Mode() != 0o711|os.ModeSetuid {
		t.Errorf("got mode %v, %v", info.Mode(), err)
	}
	if info, err := r.Lstat("/link"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
	if names, err := r.ReadDir("/"); err != nil || len(names) != 2 {
		t.Errorf("got files %v, %v", names, err)
	}
}

func TestReadFileHasALimit(t *testing.T) {
	dir, r := newRoot(t, nil)
	if err := os.WriteFile(filepath.Join(dir, "file"), make([]byte, 11), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadFile("/file", 10); err == nil {
		t.Error("got no error")
	}
	if data, err := r.ReadFile("/file", 11); err != nil || len(data) != 11 {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
	if _, err := r.ReadFile("/", 10); !errors.Is(err, ErrNotRegular) {
		t.Errorf("got %v, want %v", err, ErrNotRegular)
	}
}

// What is remembered of folders leads to the same places, with links in the folders and links that are files.
func TestASteadyRootResolvesAlike(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"usr/lib/a/b", "etc"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"lib": "usr/lib", "etc/abs": "/usr/lib/a", "etc/up": "../../../usr", "usr/lib/a/loop": "loop", "etc/file": "/nowhere/x"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	names := []string{"/", "/lib", "/lib/a/b/c", "/etc/abs/b/x", "/etc/abs/../a", "/etc/up/lib/a", "/etc/file", "/lib/a/loop/x", "/etc/abs/loop", "/missing/x", "etc//abs/./b"}
	type place struct{ resolved, located, err1, err2 string }
	look := func() (out []place) {
		for _, n := range names {
			var p place
			var err1, err2 error
			p.resolved, err1 = r.Resolve(n)
			p.located, err2 = r.Locate(n)
			p.err1, p.err2 = fmt.Sprint(err1), fmt.Sprint(err2)
			out = append(out, p)
		}
		return out
	}
	want := look()
	end := r.Steady()
	first, again := look(), look()
	end()
	if !slices.Equal(want, first) || !slices.Equal(want, again) {
		t.Errorf("got\n%+v\n%+v, want\n%+v", first, again, want)
	}
}
