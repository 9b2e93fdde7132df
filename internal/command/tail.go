package command

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// keptTail is how many of the last bytes of a program's output are kept.
const keptTail = 4 << 10

// tail keeps the end of what is written to it.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-keptTail):]...)
	t.b = append(t.b[:0], t.b[max(0, len(t.b)-keptTail):]...)
	return len(p), nil
}

// lastLine is the last one that is not empty, its last words when it is long.
func (t *tail) lastLine() string {
	text := bytes.TrimSpace(t.b)
	text = bytes.TrimSpace(text[bytes.LastIndexAny(text, "\r\n")+1:])
	if n := len(text) - lastWords; n > 0 {
		for n < len(text) && !utf8.RuneStart(text[n]) {
			n++
		}
		text = append([]byte("..."), text[n:]...)
	}
	return strings.ToValidUTF8(string(text), "?")
}
