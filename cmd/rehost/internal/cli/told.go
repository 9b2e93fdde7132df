package cli

import (
	"regexp"
	"strings"
)

// told is what was said of a server the last time: lines, each with the indented ones beneath it.
type told map[string]bool

// figures are what changes in a note from one look to the next without making it another.
var figures = regexp.MustCompile(`(\d[\d.]* ?([KMGT]?i?B|[mun]?s|m|h|d))+\b|\d[\d.]* ?%`)

// fresh returns the notes of a text that were not there the last time.
func (t *told) fresh(text string) string {
	var out strings.Builder
	now := told{}
	for note := range strings.SplitSeq(strings.ReplaceAll(text, "\n  ", "\x00"), "\n") {
		key := figures.ReplaceAllString(note, "")
		if now[key] = true; note != "" && !(*t)[key] {
			out.WriteString(strings.ReplaceAll(note, "\x00", "\n  ") + "\n")
		}
	}
	*t = now
	return out.String()
}
