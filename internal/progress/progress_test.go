package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestABarRepaintsOneLineOnATerminal(t *testing.T) {
	var out bytes.Buffer
	c := &clock{at: time.Unix(1000, 0)}
	b := New(&out, true, 80, c.now)
	for i := range int64(3) {
		if err := b.Update(State{Label: "web-1", Done: i << 20, Total: 4 << 20}); err != nil {
			t.Fatal(err)
		}
		c.at = c.at.Add(time.Second)
	}
	if err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	want := "\r\x1b[Kweb-1  [>                   ]    0 %  0.0/4.0 MiB" +
		"\r\x1b[Kweb-1  [=====>              ]   25 %  1.0/4.0 MiB  1.0 MiB/s  3.0s left" +
		"\r\x1b[Kweb-1  [==========>         ]   50 %  2.0/4.0 MiB  1.0 MiB/s  2.0s left\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func TestALogGetsALineNowAndThen(t *testing.T) {
	var out bytes.Buffer
	c := &clock{at: time.Unix(1000, 0)}
	b := New(&out, false, 80, c.now)
	const seconds = 25
	for i := range int64(seconds + 1) {
		note := "INITIAL_SYNC"
		if i > 22 {
			note = "BACKLOG"
		}
		if err := b.Update(State{Label: "web-1", Note: note, Done: i, Total: seconds}); err != nil {
			t.Fatal(err)
		}
		c.at = c.at.Add(time.Second)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	// At 0, 10 and 20 seconds, at the change of the note, and at the end.
	if len(lines) != 5 || !strings.Contains(lines[3], "BACKLOG") || !strings.Contains(lines[4], "100 %") {
		t.Errorf("got %d lines:\n%s", len(lines), out.String())
	}
	if strings.ContainsAny(out.String(), "\r\x1b") {
		t.Errorf("a log has control characters: %q", out.String())
	}
}

func TestALineFitsItsWidth(t *testing.T) {
	s := State{Label: strings.Repeat("n", 63), Note: "CREATING_SNAPSHOT", Done: 1 << 40, Total: 5 << 40, Rate: 900 << 20, Remaining: 90 * time.Hour}
	for _, width := range []int{20, 80, 200} {
		if got := len(Line(s, width)); got >= width {
			t.Errorf("width %d: got %d columns", width, got)
		}
	}
}

func TestSizesAndDurationsForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 30: "5.0 GiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 52 * time.Millisecond: "52ms", 1500 * time.Millisecond: "1.5s", 42 * time.Second: "42s",
		200 * time.Second: "3m20s", 35 * time.Minute: "35m", 125 * time.Minute: "2h5m", 100 * time.Hour: "4d",
	} {
		if got := Short(d); got != want {
			t.Errorf("Short(%s) = %q, want %q", d, got, want)
		}
	}
}
