package volume

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"rehost/internal/hint"
	"rehost/internal/lock"
)

const testID = "vol-0123456789abcdef0"

func newFile(t *testing.T, dir string, size int64) string {
	t.Helper()
	name := filepath.Join(dir, "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0")
	if err := os.WriteFile(name, bytes.Repeat([]byte{0xee}, int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func open(t *testing.T, dir string, virgin bool) *Volume {
	t.Helper()
	v, err := Open(dir, testID, virgin)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func TestOpenFindsAVolumeAsEC2NamesIt(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir, testID, false); err == nil || hint.Of(err) == "" {
		t.Fatalf("a volume that is not attached: got %v, want an error with a hint", err)
	}
	newFile(t, dir, 4<<20)
	if v := open(t, dir, false); v.SizeBytes() != 4<<20 {
		t.Fatalf("size %d", v.SizeBytes())
	}
}

func TestZerosAreSkippedOnlyWhereAVirginVolumeWasNotWritten(t *testing.T) {
	// The file is full of 0xee, so that a skipped zero shows.
	for _, virgin := range []bool{false, true} {
		dir := t.TempDir()
		name := newFile(t, dir, 4<<20)
		v := open(t, dir, virgin)
		if _, err := v.WriteAt(bytes.Repeat([]byte{1}, 8192), chunkBytes-4096); err != nil {
			t.Fatal(err)
		}
		if err := v.Zero(0, 4<<20); err != nil {
			t.Fatal(err)
		}
		if err := v.Flush(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:2*chunkBytes], make([]byte, 2*chunkBytes)) {
			t.Errorf("virgin %v: what was written is not zero", virgin)
		}
		if skipped := got[2*chunkBytes] == 0xee; skipped != virgin {
			t.Errorf("virgin %v: skipped %v", virgin, skipped)
		}
	}
}

func TestAVolumeIsOpenedByOneOnly(t *testing.T) {
	dir := t.TempDir()
	newFile(t, dir, 1<<20)
	v, err := Open(dir, testID, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, testID, false); !errors.Is(err, lock.ErrHeld) || hint.Of(err) == "" {
		t.Fatalf("opened twice: got %v, want ErrHeld with a hint", err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, dir, false)
}
