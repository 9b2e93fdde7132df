package bus

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
)

func TestWhatIsLargeIsCompressed(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		most int
	}{{"a small value stays readable", 100, 102}, {"a large one becomes small", 8 << 20, 256 << 10}} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.Repeat("server-00001 ", c.size/13+1)[:c.size]
			body, err := Encode(want)
			if err != nil || len(body) > c.most {
				t.Fatalf("%d bytes, %v; want at most %d", len(body), err, c.most)
			}
			if small := c.size < packFrom; small != (body[0] == '"') {
				t.Errorf("begins with %q", body[:1])
			}
			var got string
			if err := Decode(body, &got); err != nil || got != want {
				t.Errorf("came back with %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestWhatCannotBeUnpackedIsRefused(t *testing.T) {
	whole, err := Encode(strings.Repeat("x", packFrom))
	if err != nil {
		t.Fatal(err)
	}
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range maxUnpacked>>20 + 1 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"cut off": whole[:len(whole)/2], "head only": packed, "a bomb": bomb.Bytes(), "no JSON": []byte("{")} {
		var v any
		if err := Decode(body, &v); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
