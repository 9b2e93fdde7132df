package cpio

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func archive(tb testing.TB, files ...string) []byte {
	tb.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	for _, f := range files {
		if err := w.Write(f, ModeFile|0o644, []byte("content of "+f)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// pack compresses with the program that distributions use.
func pack(tb testing.TB, data []byte, name string, args ...string) []byte {
	tb.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s: %v", name, err)
	}
	return out
}

func walk(image []byte) (map[string]string, Compression, error) {
	found := map[string]string{}
	kind, err := Walk(bytes.NewReader(image), func(e Entry, r io.Reader) error {
		data, err := io.ReadAll(r)
		found[e.Name] = string(data)
		return err
	})
	return found, kind, err
}

func TestWalkReadsAllPartsInEveryCompression(t *testing.T) {
	large := strings.Repeat("0123456789abcdef", 1<<16)
	for _, tt := range []struct {
		kind Compression
		args []string
	}{
		{None, nil},
		{Gzip, []string{"gzip", "-c"}},
		{Zstd, []string{"zstd", "-c", "-q"}},
		{XZ, []string{"xz", "-c", "--check=crc32"}},
		{LZ4, []string{"lz4", "-l", "-c"}},
		{LZMA, []string{"xz", "-c", "--format=lzma"}},
		{Bzip2, []string{"bzip2", "-c"}},
	} {
		t.Run(string(tt.kind), func(t *testing.T) {
			var main bytes.Buffer
			w := NewWriter(&main)
			if err := errors.Join(w.Write("bin", ModeDir|0o755, nil), w.Write("bin/large", ModeFile|0o755, []byte(large)), w.Close()); err != nil {
				t.Fatal(err)
			}
			part := main.Bytes()
			if tt.args != nil {
				part = pack(t, part, tt.args[0], tt.args[1:]...)
			}
			// Microcode first, the image, and what a conversion appends.
			image := append(archive(t, "kernel/x86/microcode/GenuineIntel.bin"), make([]byte, 512)...)
			image = append(image, part...)
			found, kind, err := walk(image)
			if err != nil || kind != tt.kind || found["bin/large"] != large {
				t.Fatalf("got %v, %v, %d bytes", kind, err, len(found["bin/large"]))
			}
			image = append(image, make([]byte, 4+(4-len(image)%4)%4)...)
			image = append(image, pack(t, archive(t, "added", "more"), "gzip", "-c")...)
			found, kind, err = walk(image)
			if err != nil || kind != Gzip {
				t.Fatalf("got %v, %v", kind, err)
			}
			want := map[string]string{
				"kernel/x86/microcode/GenuineIntel.bin": "content of kernel/x86/microcode/GenuineIntel.bin",
				"bin":                                   "", "bin/large": large, "added": "content of added", "more": "content of more",
			}
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArchiveIsReadByCpio(t *testing.T) {
	cmd := exec.Command("cpio", "-t", "--quiet")
	cmd.Stdin = bytes.NewReader(archive(t, "a", "some/longer/name"))
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "a\nsome/longer/name\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestTruncatedImageIsAnError(t *testing.T) {
	for _, image := range [][]byte{archive(t, "a", "b"), pack(t, archive(t, "a", "b"), "zstd", "-c", "-q"), pack(t, archive(t, "a", "b"), "gzip", "-c")} {
		for n := 1; n < len(image)-8; n += 7 {
			if _, _, err := walk(image[:n]); err == nil && n < len(image)-200 {
				t.Errorf("no error for %d of %d bytes", n, len(image))
			}
		}
	}
}

func FuzzWalk(f *testing.F) {
	plain := archive(f, "a", "b/c")
	f.Add(plain)
	f.Add(pack(f, plain, "gzip", "-c"))
	f.Add(pack(f, plain, "zstd", "-c", "-q"))
	f.Add(pack(f, plain, "xz", "-c", "--check=crc32"))
	f.Add(pack(f, plain, "lz4", "-l", "-c"))
	f.Add(pack(f, plain, "xz", "-c", "--format=lzma"))
	f.Add(pack(f, plain, "bzip2", "-c"))
	f.Fuzz(func(_ *testing.T, image []byte) {
		n := 0
		_, _ = Walk(bytes.NewReader(image), func(_ Entry, r io.Reader) error {
			if n++; n > 1000 {
				return ErrStop
			}
			_, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			return err
		})
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("name", []byte("data"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		if name == "" || name == trailer || len(name) >= maxName || strings.ContainsRune(name, 0) {
			t.Skip()
		}
		var out bytes.Buffer
		w := NewWriter(&out)
		if err := errors.Join(w.Write(name, ModeFile|0o600, data), w.Write("z", ModeFile, nil), w.Close()); err != nil {
			t.Fatal(err)
		}
		r := NewReader(&out)
		e, err := r.Next()
		if err != nil || e.Name != name || e.Size != int64(len(data)) {
			t.Fatalf("got %+v, %v", e, err)
		}
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("got %q, %v", got, err)
		}
		if e, err := r.Next(); err != nil || e.Name != "z" {
			t.Fatalf("got %+v, %v", e, err)
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("got %v", err)
		}
	})
}
