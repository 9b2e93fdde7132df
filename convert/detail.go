package convert

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDetail bounds the text that explains one change: all of them go over a serial console.
const maxDetail = 2048

// difference returns the lines that were removed and added, for people.
func difference(before, after string) string {
	if strings.ContainsRune(after, 0) || !utf8.ValidString(after) {
		return fmt.Sprintf("%d bytes", len(after))
	}
	before, after = strings.TrimRight(before, "#"), strings.TrimRight(after, "#") // what fills up GRUB's environment block
	a, b := strings.Split(strings.TrimSuffix(before, "\n"), "\n"), strings.Split(strings.TrimSuffix(after, "\n"), "\n")
	if before == "" {
		a = nil
	}
	have := map[string]int{}
	for _, l := range a {
		have[l]++
	}
	var added []string
	for _, l := range b {
		if have[l] > 0 {
			have[l]--
			continue
		}
		added = append(added, "+"+l)
	}
	var lines []string
	for _, l := range a {
		if have[l] > 0 {
			have[l]--
			lines = append(lines, "-"+l)
		}
	}
	text := strings.Join(append(lines, added...), "\n")
	if len(text) > maxDetail {
		text = strings.ToValidUTF8(text[:maxDetail], "") + "..."
	}
	return text
}
