package cli

// color is an ANSI foreground.
type color string

// The colours that mean something.
const (
	red    color = "31"
	green  color = "32"
	yellow color = "33"
)

// paint colours a text where people look at it: on a terminal that is no dumb one, and without $NO_COLOR.
func (e Env) paint(c color, text string) string {
	if !e.Color || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}
