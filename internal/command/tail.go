package command

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// keptTail is how many of the last bytes of a program's output are kept.
const keptTail = 4 << 10

// Tail keeps the end of what is written to it: Max bytes. It is not safe for concurrent use.
type Tail struct {
	Max  int
	text []byte // up to twice as much, so that not every write moves it
	cut  bool
}

func (t *Tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.cut = t.cut || len(t.text) > t.Max
	if len(t.text) > 2*t.Max {
		t.text = append(t.text[:0], t.Bytes()...)
	}
	return len(p), nil
}

// Bytes are the end, as it was written.
func (t *Tail) Bytes() []byte { return t.text[max(0, len(t.text)-t.Max):] }

// String is the end for people: with a sign that there was more, and without newlines behind it.
func (t *Tail) String() string {
	text := strings.ToValidUTF8(string(t.Bytes()), "?")
	if t.cut {
		text = "..." + text
	}
	return strings.TrimRight(text, "\n")
}

// lastLine is the last one that is not empty, its last words when it is long.
func (t *Tail) lastLine() string {
	text := bytes.TrimSpace(t.Bytes())
	text = bytes.TrimSpace(text[bytes.LastIndexAny(text, "\r\n")+1:])
	if n := len(text) - lastWords; n > 0 {
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		text = append([]byte("..."), text[n:]...)
	}
	return strings.ToValidUTF8(string(text), "?")
}
