package preflight

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

func TestServer(t *testing.T) {
	want := SurveyOrder("", protocol.LaunchSettings{Network: "dhcp"})
	disks := []protocol.DiskReport{{Name: "/dev/sda", Boot: true, WriteRate: 3 << 20}, {Name: "/dev/sdb", WriteRate: 3 << 20}}
	survey := func(findings ...protocol.Finding) *protocol.Survey {
		return &protocol.Survey{Order: want, At: time.Now(), Findings: findings}
	}
	warning := protocol.Finding{Severity: protocol.SeverityWarning, Code: protocol.FindingFstabNetwork}
	critical := protocol.Finding{Severity: protocol.SeverityCritical, Code: protocol.FindingSpace, Message: "/boot is full", Hint: "free some"}
	old := survey(critical)
	old.Order = SurveyOrder("", protocol.LaunchSettings{Network: "keep"})
	failed := survey(critical)
	failed.Problem = &protocol.Problem{Message: "it took too long"}
	limited := protocol.ReplicationSettings{Name: "default", Bandwidth: protocol.BandwidthSettings{Server: 50 << 20, Site: 5 << 20}}
	for _, tt := range []struct {
		name    string
		report  *protocol.AgentReport
		r       protocol.ReplicationSettings
		want    []string
		pending bool
	}{
		{name: "no agent", want: []string{"info not-surveyed"}, pending: true},
		{name: "no survey", report: &protocol.AgentReport{Disks: disks}, want: []string{"info not-surveyed"}, pending: true},
		{name: "all well", report: &protocol.AgentReport{Disks: disks, Survey: survey()}},
		{name: "worst first", report: &protocol.AgentReport{Disks: disks, Survey: survey(warning, critical)}, want: []string{"critical no-space", "warning fstab-network"}},
		{name: "of other settings", report: &protocol.AgentReport{Disks: disks, Survey: old}, want: []string{"info not-surveyed"}, pending: true},
		{name: "could not look", report: &protocol.AgentReport{Disks: disks, Survey: failed}, want: []string{"warning not-surveyed"}},
		{name: "no boot disk", report: &protocol.AgentReport{Disks: disks[1:], Survey: survey()}, want: []string{"critical no-boot-disk"}},
		{name: "scan", report: &protocol.AgentReport{Disks: disks, Survey: survey(), Tier: "scan"}, want: []string{"warning not-tracked"}},
		{name: "writes too much", report: &protocol.AgentReport{Disks: disks, Survey: survey()}, r: limited, want: []string{"warning write-rate"}},
	} {
		var report protocol.AgentReport
		if tt.report != nil {
			report = *tt.report
		}
		p := Server("web-1", report, tt.report != nil, want, tt.r)
		var got []string
		for _, f := range p.Findings {
			got = append(got, string(f.Severity)+" "+string(f.Code))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" || p.Pending != tt.pending {
			t.Errorf("%s: pending %v, %s", tt.name, p.Pending, diff)
		}
		blocks := len(tt.want) > 0 && strings.HasPrefix(tt.want[0], "critical")
		if problem := Blocks(p); (problem != nil) != blocks || (blocks && !strings.Contains(problem.Hint, "--force")) {
			t.Errorf("%s: blocks with %v", tt.name, problem)
		}
	}
}
