package storage

import (
	"fmt"

	"rehost/protocol"
)

// refusal is a critical finding as an error.
type refusal struct{ finding protocol.Finding }

func (r *refusal) Error() string { return r.finding.Message }

func refuse(code protocol.FindingCode, subject, hint, format string, args ...any) error {
	return &refusal{protocol.Finding{
		Severity: protocol.SeverityCritical, Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...),
	}}
}

// note takes note of a finding that stops nothing.
func (g *Guest) note(code protocol.FindingCode, subject, hint, format string, args ...any) {
	g.Findings = append(g.Findings, protocol.Finding{
		Severity: protocol.SeverityWarning, Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...),
	})
}

// skip takes note of storage that is left alone. It becomes critical when something is missing that
// may be in it; see [Guest.blame].
func (g *Guest) skip(code protocol.FindingCode, subject, hint, format string, args ...any) {
	g.skipped = append(g.skipped, len(g.Findings))
	g.note(code, subject, hint, format, args...)
}

// blame makes what was left alone critical: one of them has what is missing.
func (g *Guest) blame() {
	for _, i := range g.skipped {
		g.Findings[i].Severity = protocol.SeverityCritical
	}
}
