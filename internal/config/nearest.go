package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// listed bounds how many known names a diagnostic lists when none is near: it has room for all that a reference can begin with.
const listed = 9

// nearest returns the name closest to word, or "" when none is close enough to be a slip of the fingers.
func nearest(word string, known []string) string {
	// At most half of the letters wrong, and never more than three: "wbe" is web, "f" is nothing.
	best, limit := "", min(3, (len(word)+1)/2, len(word)-1)+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(k), nil); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// didYouMean ends a diagnostic: the nearest name, or the names that there are. prefix comes before each name.
func didYouMean(word, prefix string, known []string) string {
	if n := nearest(word, known); n != "" {
		return fmt.Sprintf("Did you mean %s%s?", prefix, n)
	}
	if len(known) == 0 {
		return "There is none at all yet."
	}
	sorted := slices.Sorted(slices.Values(known))
	more := ""
	if len(sorted) > listed {
		more = fmt.Sprintf(" and %d more", len(sorted)-listed)
		sorted = sorted[:listed]
	}
	return fmt.Sprintf("There are: %s%s%s.", prefix, strings.Join(sorted, ", "+prefix), more)
}
