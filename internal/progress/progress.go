// Package progress shows how far long work is: bytes, rate and remaining time. On a
// terminal it repaints one line; elsewhere it writes a line now and then, so that a log
// stays readable. It owns the line's layout and the estimate of the rate; it never
// reads a clock of its own and starts no goroutine: whoever does the work calls Update.
package progress

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Defaults of a bar.
const (
	logEvery   = 10 * time.Second // between lines of a log, unless the text around the bar changes
	rateWindow = 10 * time.Second // over which the rate is estimated
	barWidth   = 20               // narrower where the line would not fit
	barNarrow  = 6
)

// State is how far the work is.
type State struct {
	Label     string // what is being done, such as a server's name
	Note      string // which part of it, such as INITIAL_SYNC
	Done      int64  // bytes
	Total     int64  // bytes; 0: unknown yet
	Rate      int64  // bytes per second; 0: let the bar estimate
	Remaining time.Duration
}

// Bar shows one piece of work. It is not for concurrent use.
type Bar struct {
	w        io.Writer
	terminal bool
	width    int
	now      func() time.Time
	samples  []sample
	written  time.Time // of the last line in a log
	last     string    // text of the last line
	note     string
	open     bool // the terminal's line is not ended
}

type sample struct {
	at   time.Time
	done int64
}

// New returns a bar on w. width is that of the terminal (0: 80); now is the clock.
func New(w io.Writer, terminal bool, width int, now func() time.Time) *Bar {
	if width <= 0 {
		width = 80
	}
	return &Bar{w: w, terminal: terminal, width: width, now: now}
}

// Update shows a state. In a log it writes only when the note changed, the work is done, or enough time is over.
func (b *Bar) Update(s State) error {
	now := b.now()
	b.estimate(now, &s)
	line := Line(s, b.width)
	if b.terminal {
		b.open = true
		_, err := fmt.Fprintf(b.w, "\r\x1b[K%s", line)
		return err
	}
	done := s.Total > 0 && s.Done >= s.Total
	if line == b.last || s.Note == b.note && !done && now.Sub(b.written) < logEvery {
		return nil
	}
	b.written, b.last, b.note = now, line, s.Note
	_, err := fmt.Fprintln(b.w, line)
	return err
}

// Clear takes the bar's line off a terminal, so that other text can be written.
func (b *Bar) Clear() error {
	if !b.open {
		return nil
	}
	b.open = false
	_, err := io.WriteString(b.w, "\r\x1b[K")
	return err
}

// Finish ends the bar's line on a terminal and leaves it there.
func (b *Bar) Finish() error {
	if !b.open {
		return nil
	}
	b.open = false
	_, err := io.WriteString(b.w, "\n")
	return err
}

// estimate fills in the rate and the remaining time from what was seen lately.
func (b *Bar) estimate(now time.Time, s *State) {
	if n := len(b.samples); n > 0 && s.Done < b.samples[n-1].done {
		b.samples = nil // new work on the same bar
	}
	b.samples = append(b.samples, sample{now, s.Done})
	for len(b.samples) > 2 && now.Sub(b.samples[0].at) > rateWindow {
		b.samples = b.samples[1:]
	}
	first := b.samples[0]
	if elapsed := now.Sub(first.at); s.Rate == 0 && elapsed > 0 {
		s.Rate = int64(float64(s.Done-first.done) / elapsed.Seconds())
	}
	if s.Remaining == 0 && s.Rate > 0 && s.Total > s.Done {
		s.Remaining = time.Duration(float64(s.Total-s.Done) / float64(s.Rate) * float64(time.Second))
	}
}

// Line lays a state out in at most width columns:
//
//	web-1  [=========>          ]  47 %  1.2/2.5 GiB  310 MiB/s  4s left  INITIAL_SYNC
func Line(s State, width int) string {
	line := []rune(layout(s, barWidth))
	if over := len(line) - width + 1; over > 0 { // a full last column would wrap on some terminals
		line = []rune(layout(s, max(barNarrow, barWidth-over)))
	}
	if len(line) >= width {
		line = line[:width-1]
	}
	return string(line)
}

func layout(s State, bar int) string {
	parts := []string{s.Label}
	if s.Total > 0 {
		share := min(float64(s.Done)/float64(s.Total), 1)
		parts = append(parts, drawn(share, bar), fmt.Sprintf("%3d %%", int(share*100)), pair(s.Done, s.Total))
	} else if s.Done > 0 {
		parts = append(parts, Bytes(s.Done))
	}
	if s.Rate > 0 && s.Done < s.Total {
		parts = append(parts, Bytes(s.Rate)+"/s")
	}
	if s.Remaining > 0 && s.Done < s.Total {
		parts = append(parts, Short(s.Remaining)+" left")
	}
	if s.Note != "" {
		parts = append(parts, s.Note)
	}
	return strings.Join(parts, "  ")
}

func drawn(share float64, width int) string {
	full := int(share * float64(width))
	bar := strings.Repeat("=", full)
	if full < width {
		bar += ">" + strings.Repeat(" ", width-full-1)
	}
	return "[" + bar + "]"
}

// pair writes two sizes in the unit of the second: "1.2/2.5 GiB".
func pair(done, total int64) string {
	unit, name := unitOf(total)
	if unit == 1 {
		return fmt.Sprintf("%d/%d B", done, total)
	}
	return fmt.Sprintf("%.1f/%.1f %s", float64(done)/float64(unit), float64(total)/float64(unit), name)
}

// Bytes writes a size for people, in powers of two: "1.2 GiB".
func Bytes(n int64) string {
	unit, name := unitOf(n)
	if unit == 1 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", float64(n)/float64(unit), name)
}

func unitOf(n int64) (int64, string) {
	names := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	unit, i := int64(1), 0
	for n/unit >= 1024 && i < len(names)-1 {
		unit, i = unit<<10, i+1
	}
	return unit, names[i]
}

// Short writes a duration for people in at most five characters or so: "400ms", "1.5s", "12s", "3m20s", "2h5m", "4d".
func Short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 10*time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours())/24)
	}
}
