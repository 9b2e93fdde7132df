//go:build mutant_mark_at_issue

package track

// btfPrograms is, for the mutant, one that marks too early.
var btfPrograms = []string{trackProgRehostMutant}
