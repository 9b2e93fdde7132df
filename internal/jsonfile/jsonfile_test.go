package jsonfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWhatIsWrittenIsReadAndSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "value.json")
	for _, want := range []string{"first", "second"} {
		if err := Write(path, want); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := Read(path, &got); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want the file alone", left, err)
	}
}

func TestAMissingFileSaysSo(t *testing.T) {
	if err := Read(filepath.Join(t.TempDir(), "none"), new(string)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want ErrNotExist", err)
	}
}
