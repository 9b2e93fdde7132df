package passphrase

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rehost/internal/hint"
)

func TestRead(t *testing.T) {
	for text, want := range map[string]string{"a b": "a b", "a\n": "a", "a\r\n": "a", " a": " a", strings.Repeat("x", limit) + "\n": strings.Repeat("x", limit)} {
		if got, err := Read(strings.NewReader(text), "f"); string(got) != want || err != nil {
			t.Errorf("%q: got %q, %v", text, string(got), err)
		}
	}
	for _, text := range []string{"", "\n", "secret\ntwo\n", strings.Repeat("x", limit+1)} {
		got, err := Read(strings.NewReader(text), "f")
		if err == nil || hint.Of(err) == "" || strings.Contains(err.Error(), "secret") || got != "" {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := ReadFile(path); hint.Of(err) == "" {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if got != "secret" || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", got, got, got, got); strings.Contains(text, "ecret\"") || strings.Count(text, "(secret)") != 4 {
		t.Errorf("it shows itself: %s", text)
	}
}
