package preflight

import (
	"fmt"
	"time"

	"rehost/internal/progress"
	"rehost/protocol"
)

// late is after how many times the wanted one an answer is too old: a job may be under way, or wait for others.
const late = 2

// Boots says what is wrong with the newest answer to whether a copy of a server boots, where its launch block asks for one. It is pure.
func Boots(rec protocol.Server, l protocol.LaunchSettings, now time.Time) []protocol.Finding {
	if l.Ready == 0 || (rec.Lifecycle != protocol.ReadyForTest && rec.Lifecycle != protocol.ReadyForCutover) {
		return nil
	}
	f := protocol.Finding{Severity: protocol.SeverityWarning, Code: protocol.FindingBoots, Subject: "launch " + l.Name, Hint: "see what it waits for: rehost status " + rec.Name}
	b := rec.Boots
	switch {
	case b == nil && now.Sub(rec.Since) <= late*l.Ready:
		return nil
	case b == nil:
		f.Message = "nobody has found out yet whether a copy of it boots"
	case b.Problem != nil:
		what := "a copy of it does not boot"
		if !b.Answered() {
			what = "it is not known whether a copy of it boots"
		}
		f.Message = fmt.Sprintf("%s, as of %s ago: %s", what, progress.Short(now.Sub(b.At)), b.Problem.Message)
		f.Hint = "see rehost job show " + b.Job + "; to look at it yourself: rehost server test " + rec.Name
	case now.Sub(b.At) > late*l.Ready:
		f.Message = fmt.Sprintf("a copy of it has booted %s ago, and every %s was asked for", progress.Short(now.Sub(b.At)), progress.Short(l.Ready))
	default:
		return nil
	}
	return []protocol.Finding{f}
}

// With adds findings, the worst first.
func With(p protocol.Preflight, more []protocol.Finding) protocol.Preflight {
	p.Findings = append(p.Findings, more...)
	WorstFirst(p.Findings)
	return p
}
