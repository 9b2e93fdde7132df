//go:build !mutant_mark_at_issue

package track

var btfPrograms = []string{trackProgRehostRequeue, trackProgRehostIssue, trackProgRehostComplete}
