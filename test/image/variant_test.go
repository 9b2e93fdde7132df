package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What two copies of a server must not share is gone, and nothing else.
func TestAnonymize(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	files := map[string]string{
		"etc/ssh/ssh_host_rsa_key": "secret", "etc/ssh/ssh_host_rsa_key.pub": "public", "etc/ssh/sshd_config": "kept",
		"etc/machine-id": "0123\n", "etc/shadow": "root:$y$hash:19000:0:99999:7:::\ntoor:$y$kept:19000::::::\n",
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := anonymize(root); err != nil {
		t.Fatal(err)
	}
	if keys, _ := filepath.Glob(filepath.Join(root, "etc/ssh/*")); len(keys) != 1 || filepath.Base(keys[0]) != "sshd_config" {
		t.Errorf("left of SSH: %v", keys)
	}
	if id := read(t, root, "etc/machine-id"); id != "" {
		t.Errorf("machine id %q, want an empty file", id)
	}
	if got := read(t, root, "etc/shadow"); got != "root:*:19000:0:99999:7:::\ntoor:$y$kept:19000::::::\n" {
		t.Errorf("passwords:\n%s", got)
	}
}

func TestVariants(t *testing.T) {
	t.Parallel()
	seen := map[string]Variant{}
	for _, v := range []Variant{Ledger, CloudInit} {
		c, err := v.content()
		if err != nil {
			t.Fatal(err)
		}
		sum, err := c.recipe()
		if err != nil || seen[sum] != "" {
			t.Errorf("recipe of %s: %s, as that of %q, %v", v, sum, seen[sum], err)
		}
		seen[sum] = v
	}
	if _, err := Variant("other").content(); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("got %v", err)
	}
}
