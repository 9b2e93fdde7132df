package lock

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"rehost/internal/hint"
)

func TestOneHasItAndTheNextWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "web-1.lock")
	release, err := Take(t.Context(), path, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(t.Context(), path, 10*time.Millisecond); !errors.Is(err, ErrHeld) || hint.Of(err) == "" {
		t.Fatalf("taken twice: got %v, want ErrHeld with a hint", err)
	}
	time.AfterFunc(100*time.Millisecond, func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	again, err := Take(t.Context(), path, 10*time.Second)
	if err != nil {
		t.Fatalf("after the first has ended: %v", err)
	}
	if err := again(); err != nil {
		t.Error(err)
	}
}
