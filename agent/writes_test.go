package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"rehost/internal/blockdev"
)

func TestWriteRate(t *testing.T) {
	const mib = 1 << 20
	boot := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var r writeRate
	near := func(what string, want float64) {
		t.Helper()
		if r.rate < want*0.95 || r.rate > want*1.05 {
			t.Errorf("%s: %.0f bytes/s, want %.0f", what, r.rate, want)
		}
	}
	at, bytes := boot, uint64(3600*mib)
	r.look(bytes, at, time.Hour)
	near("the average since the boot", mib)
	r.look(bytes, at, time.Hour)
	near("the same look again", mib)
	for range 6 * 120 { // two hours of silence
		at = at.Add(10 * time.Second)
		r.look(bytes, at, 0)
	}
	if r.rate > mib/100 {
		t.Errorf("after two quiet hours: %.0f bytes/s", r.rate)
	}
	at, bytes = at.Add(10*time.Second), bytes+100*mib // one burst
	r.look(bytes, at, 0)
	near("a burst", 10*mib*(10.0/900))
	for range 6 * 60 {
		at, bytes = at.Add(10*time.Second), bytes+80*mib
		r.look(bytes, at, 0)
	}
	near("an hour of writes", 8*mib)
	r.look(mib, at.Add(time.Second), 16*time.Second)
	near("another disk under the name", mib/16)
}

func TestWrittenBytesOfADisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const size = 8 << 20
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	loop, err := blockdev.AttachLoop(t.Context(), blockdev.LoopOptions{File: file})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := loop.Detach(); err != nil {
			t.Error(err)
		}
	}()
	before, err := writtenBytes(loop.Path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(loop.Path, os.O_WRONLY|os.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := writtenBytes(loop.Path)
	if err != nil || after-before != 1<<20 {
		t.Errorf("%d bytes were written, want %d (%v)", after-before, 1<<20, err)
	}
	var w writeRates
	w.look([]SourceDisk{{Name: loop.Path}, {Name: file}}, time.Now())
	if w.rate(0) < 0 || w.rate(1) != 0 || w.rate(2) != 0 {
		t.Errorf("rates: %d, %d, %d", w.rate(0), w.rate(1), w.rate(2))
	}
}
