package cli

import "regexp"

// color is an ANSI foreground.
type color string

// The colours that mean something.
const (
	red    color = "31"
	green  color = "32"
	yellow color = "33"
)

// colored says whether the world is one for colours: a terminal that is no dumb one, and no $NO_COLOR.
func (e Env) colored() bool {
	return e.Terminal && e.Getenv("NO_COLOR") == "" && e.Getenv("TERM") != "dumb"
}

// paint colours a text where that is wanted.
func (e Env) paint(c color, text string) string {
	if !e.Color || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

var colors = regexp.MustCompile("\x1b\\[[0-9]+m")
