package writer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	ledger := func(numbers ...int64) string {
		var b strings.Builder
		for _, n := range numbers {
			b.WriteString(record(n))
		}
		return b.String()
	}
	whole := ledger(1, 2, 3)
	damaged := []byte(whole)
	damaged[len(record(1))+30] ^= 1
	tests := []struct {
		name, text string
		opts       []Option
		last       int64
		err        string // empty: none
	}{
		{"empty", "", nil, 0, ""},
		{"whole", whole, nil, 3, ""},
		{"torn", whole + record(4)[:20], nil, 3, "torn"},
		{"torn, allowed", whole + record(4)[:20], []Option{AllowTorn}, 3, ""},
		{"only its newline missing", whole[:len(whole)-1], nil, 2, "torn"},
		{"gap", ledger(1, 2, 4), nil, 2, "record 4 follows record 2"},
		{"gap, torn allowed", ledger(1, 2, 4), []Option{AllowTorn}, 2, "record 4 follows record 2"},
		{"start missing", ledger(2, 3), nil, 0, "record 2 follows record 0"},
		{"twice", ledger(1, 2, 2), nil, 2, "record 2 follows record 2"},
		{"damaged", string(damaged), []Option{AllowTorn}, 1, "damaged"},
		{"other number, same checksum", strings.Replace(whole, "000000000003", "000000000004", 1), nil, 2, "damaged"},
		{"zeros at the end", whole + strings.Repeat("\x00", 100) + "\n", nil, 3, "is not a record"},
		{"a line without end", whole + strings.Repeat("x", 2*maxLine) + "\n", nil, 3, "buffer full"},
	}
	for _, tt := range tests {
		last, n, err := Verify(strings.NewReader(tt.text), tt.opts...)
		if last != tt.last || n != tt.last {
			t.Errorf("%s: last %d, %d records, want %d", tt.name, last, n, tt.last)
		}
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
}

// The number that Run returns is on the disk, and a second writer goes on from
// there, cutting off what a killed one left.
func TestRunContinues(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, LedgerPath)
	first := runFor(t, root, 200*time.Millisecond)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(record(first + 1)[:17]); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	second := runFor(t, root, 200*time.Millisecond)
	if first == 0 || second <= first {
		t.Errorf("wrote records up to %d, then up to %d", first, second)
	}
	if last := verifyFile(t, path); last != second {
		t.Errorf("the ledger ends with %d, want %d", last, second)
	}
}

// A ledger with a hole is not continued: the hole would look like the migration's.
func TestRunRefusesDamagedLedger(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	path := filepath.Join(root, LedgerPath)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(record(1)+record(3)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), Options{Root: root}); err == nil || !strings.Contains(err.Error(), "record 3 follows record 1") {
		t.Errorf("got %v, want the hole named", err)
	}
}

// As a process: kill -9 leaves at most a torn record, and SIGTERM ends it in order.
func TestProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "writer")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	path := filepath.Join(dir, LedgerPath)
	start := func(after int64) (*exec.Cmd, *bytes.Buffer) {
		cmd := exec.CommandContext(t.Context(), program, "-root", dir, "-rate", "200")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			data, _ := os.ReadFile(path)
			if int64(bytes.Count(data, []byte("\n"))) > after+5 {
				return cmd, &out
			}
			if time.Now().After(deadline) {
				t.Fatalf("no records after 10 s; the ledger has %d bytes", len(data))
			}
		}
	}
	cmd, _ := start(0)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	killedAt, _, err := Verify(bytes.NewReader(data), AllowTorn)
	if err != nil {
		t.Fatal(err)
	}

	cmd, out := start(killedAt)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after SIGTERM: %v", err)
	}
	printed, err := strconv.ParseInt(strings.TrimSpace(out.String()), 10, 64)
	if last := verifyFile(t, path); err != nil || printed != last {
		t.Errorf("it printed %q (%v), the ledger ends with %d", out, err, last)
	}
}

// The files beside the ledger stay within their bound and are what the churner
// thinks they are.
func TestChurnIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 4 << 20
	c := newChurner(t.TempDir(), limit, [32]byte{1})
	var written int64
	for range 300 {
		n, err := c.step()
		if err != nil {
			t.Fatal(err)
		}
		written += n
	}
	var size int64
	files := 0
	err := filepath.WalkDir(c.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		size, files = size+info.Size(), files+1
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if size > limit || size != c.total || files != len(c.files) {
		t.Errorf("%d files of %d bytes on the disk; the churner knows %d of %d, bound %d", files, size, len(c.files), c.total, limit)
	}
	if written <= limit {
		t.Errorf("only %d bytes written in 300 steps: the bound was never met", written)
	}
}

func runFor(t *testing.T, root string, d time.Duration) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	last, err := Run(ctx, Options{Root: root, Rate: 200, ChurnBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return last
}

func verifyFile(t *testing.T, path string) int64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	last, _, err := Verify(f)
	if errors.Is(err, ErrTorn) {
		t.Error("the ledger was not finished in order")
	}
	if err != nil {
		t.Fatal(err)
	}
	return last
}
