package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rehost/internal/progress"
	"rehost/protocol"
)

// SurveyOrder is the survey that an agent is to have ready for a server with these settings. id is that of the newest one that an
// operator asked for.
func SurveyOrder(id string, l protocol.LaunchSettings) protocol.SurveyOrder {
	return protocol.SurveyOrder{ID: id, Options: protocol.ConversionSettings{Network: l.Network}}
}

// Server says what is known of a server before it is converted: what its agent's survey found and what its reports show. known
// is false when no agent has reported. It is pure.
func Server(name string, report protocol.AgentReport, known bool, want protocol.SurveyOrder, r protocol.ReplicationSettings) protocol.Preflight {
	out := protocol.Preflight{Server: name, Findings: []protocol.Finding{}}
	add := func(severity protocol.Severity, code protocol.FindingCode, subject, hint, format string, args ...any) {
		out.Findings = append(out.Findings, protocol.Finding{Severity: severity, Code: code, Subject: subject, Hint: hint, Message: fmt.Sprintf(format, args...)})
	}
	if !known {
		out.Pending = true
		add(protocol.SeverityInfo, protocol.FindingNotSurveyed, "", "start its agent: rehost server token "+name, "no agent of %s has reported yet", name)
		return out
	}
	s := report.Survey
	out.Pending = s == nil || !s.Order.Equal(want)
	switch {
	case s == nil:
		add(protocol.SeverityInfo, protocol.FindingNotSurveyed, "", "wait for its survey; an agent of an older version makes none", "the agent has not said yet what a conversion would say")
	case s.Problem != nil:
		add(protocol.SeverityWarning, protocol.FindingNotSurveyed, "", s.Problem.Hint, "the agent could not look: %s", s.Problem.Message)
	case !s.Order.Options.Equal(want.Options): // it is of other settings: none of it counts
		add(protocol.SeverityInfo, protocol.FindingNotSurveyed, "", "wait for the new survey", "the launch settings have changed since the agent looked")
	default:
		out.Surveyed, out.Guest = s.At, &s.Guest
		out.Findings = append(out.Findings, s.Findings...)
		if s.Omitted > 0 {
			add(protocol.SeverityWarning, protocol.FindingNotSurveyed, "", "mend what is listed, then look again", "%d more findings are not listed", s.Omitted)
		}
	}
	out.Findings = append(out.Findings, reported(report, r)...)
	WorstFirst(out.Findings)
	return out
}

// reported says what an agent's reports show.
func reported(report protocol.AgentReport, r protocol.ReplicationSettings) []protocol.Finding {
	var found []protocol.Finding
	if len(report.Disks) > 0 && !slices.ContainsFunc(report.Disks, func(d protocol.DiskReport) bool { return d.Boot }) {
		found = append(found, protocol.Finding{
			Severity: protocol.SeverityCritical, Code: protocol.FindingNoBootDisk, Message: "none of the replicated disks boots: " + names(report.Disks),
			Hint: "add the disk of the root filesystem and of the boot loader to the server's disks",
		})
	}
	if report.Tier == tierScan {
		found = append(found, protocol.Finding{
			Severity: protocol.SeverityWarning, Code: protocol.FindingNotTracked, Message: "writes are not tracked: " + strings.Join(report.TierNotes, "; "),
			Hint: "a point needs a source that nobody writes to: give the agent a fence hook, or use a kernel with BPF",
		})
	}
	limit := r.Bandwidth.Server
	if limit == 0 || (r.Bandwidth.Site > 0 && r.Bandwidth.Site < limit) {
		limit = r.Bandwidth.Site
	}
	var rate int64
	for _, d := range report.Disks {
		rate += d.WriteRate
	}
	if limit > 0 && rate > limit {
		found = append(found, protocol.Finding{
			Severity: protocol.SeverityWarning, Code: protocol.FindingWriteRate, Subject: "bandwidth",
			Message: fmt.Sprintf("the host writes %s/s and may send %s/s: unless the data compresses well, replication falls behind", progress.Bytes(rate), progress.Bytes(limit)),
			Hint:    "raise `bandwidth` in replication \"" + r.Name + "\"",
		})
	}
	return found
}

// tierScan is the tracker's tier that tracks nothing.
const tierScan = "scan"

func names(disks []protocol.DiskReport) string {
	var all []string
	for _, d := range disks {
		all = append(all, d.Name)
	}
	return strings.Join(all, ", ")
}

// WorstFirst sorts findings by severity; those of the same one stay in their order.
func WorstFirst(all []protocol.Finding) {
	order := []protocol.Severity{protocol.SeverityCritical, protocol.SeverityWarning, protocol.SeverityInfo}
	slices.SortStableFunc(all, func(a, b protocol.Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
}

// Blocks returns why a server, or without a name all of them, must not be converted and launched as it is, or nil.
func Blocks(p protocol.Preflight) *protocol.Problem {
	var messages []string
	first := ""
	for _, f := range p.Findings {
		if f.Severity == protocol.SeverityCritical {
			messages = append(messages, f.Message+" ("+string(f.Code)+")")
			first = cmp.Or(first, f.Hint)
		}
	}
	if len(messages) == 0 {
		return nil
	}
	subject := p.Server + ": its conversion would fail: "
	if p.Server == "" {
		subject = "the cloud is not ready: "
	}
	return &protocol.Problem{
		Code: protocol.ProblemNotAllowed, Server: p.Server, Message: subject + strings.Join(messages, "; "),
		Hint: cmp.Or(first, "see rehost server preflight "+p.Server) + "; or give a reason with --force",
	}
}
