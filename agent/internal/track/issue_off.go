//go:build !mutant_mark_at_issue

package track

var btfPrograms = []string{trackProgRehostIssue, trackProgRehostComplete}
