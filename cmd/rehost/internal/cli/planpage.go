package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"rehost/internal/config"
	"rehost/protocol"
)

// marks of a plan's changes, as terraform has them.
var marks = map[string]struct {
	mark  string
	color color
}{protocol.PlanCreate: {"+", green}, protocol.PlanUpdate: {"~", yellow}, protocol.PlanRemove: {"-", red}}

// printPlan shows a plan; out is the file that it was kept in, or empty.
func printPlan(env Env, plan planFile, out string) error {
	var p printer
	planFindings(&p, env, plan.Plan)
	changes := plan.Plan.Changes
	if len(plan.Targets) > 0 {
		p.line("Only %s, and what they refer to; the rest of the configuration is not looked at.", strings.Join(plan.Targets, ", "))
	}
	if len(changes) == 0 {
		p.line("No changes: the fleet is as the configuration says.")
		return p.flush(env.Stdout)
	}
	for _, c := range changes {
		m := marks[c.Action]
		p.line("  %s", env.paint(m.color, m.mark+" "+c.Kind+" "+c.Name))
		for _, f := range c.Fields {
			p.line("      %s", fieldLine(f))
		}
		for _, e := range c.Effects {
			p.line("      effect: %s", oneLine(e))
		}
	}
	p.line("")
	p.line("Plan: %s.", planCounts(plan.Plan, "to create", "to update", "to remove"))
	for _, e := range plan.Plan.Effects {
		p.line("  %s", oneLine(e))
	}
	if out != "" {
		p.line("Kept in %s; apply exactly this with: rehost apply %s", out, out)
	}
	return p.flush(env.Stdout)
}

// maxFindings is how many findings a plan shows: a screen of them.
const maxFindings = 20

// planFindings shows what blocks, then what warns.
func planFindings(p *printer, env Env, plan protocol.Plan) {
	for _, w := range plan.Warnings {
		p.line("%s: %s", env.paint(yellow, "warning"), oneLine(w))
	}
	shown, all := 0, 0
	for _, kind := range []struct {
		severity protocol.Severity
		word     string
		color    color
	}{{protocol.SeverityCritical, "blocks test and cutover", red}, {protocol.SeverityWarning, "warning", yellow}} {
		for _, s := range plan.Findings {
			for _, f := range s.Findings {
				if f.Severity != kind.severity {
					continue
				}
				if all++; shown == maxFindings {
					continue
				}
				shown++
				word := kind.word
				if f.BlocksApply() {
					word = "blocks apply, test and cutover"
				}
				p.line("%s: %s: %s (%s)", env.paint(kind.color, word), subject(s), oneLine(f.Message), f.Code)
				if f.Hint != "" {
					p.line("  hint: %s", oneLine(f.Hint))
				}
			}
		}
	}
	if all > shown {
		p.line("and %d more findings; see rehost server preflight", all-shown)
	}
	if all+len(plan.Warnings) > 0 {
		p.line("")
	}
}

// fieldLine is "name: before -> after" with values as a configuration has them.
func fieldLine(f protocol.FieldChange) string {
	name := strings.TrimSuffix(strings.TrimSuffix(f.Field, "_ns"), "_bytes")
	return fmt.Sprintf("%s: %s -> %s", name, fieldValue(f.Field, f.Before), fieldValue(f.Field, f.After))
}

func fieldValue(field string, v json.RawMessage) string {
	var n int64
	switch {
	case len(v) == 0:
		return "none"
	case strings.HasSuffix(field, "_ns") && json.Unmarshal(v, &n) == nil:
		return fmt.Sprintf("%q", config.FormatDuration(time.Duration(n)))
	case strings.HasPrefix(field, "bandwidth.") && strings.HasSuffix(field, "_bytes") && json.Unmarshal(v, &n) == nil:
		return fmt.Sprintf("%q", config.FormatRate(n))
	case strings.HasSuffix(field, "_bytes") && json.Unmarshal(v, &n) == nil:
		return fmt.Sprintf("%q", config.FormatSize(n))
	}
	return oneLine(string(v))
}

func planCounts(plan protocol.Plan, created, updated, removed string) string {
	n := map[string]int{}
	for _, c := range plan.Changes {
		n[c.Action]++
	}
	return fmt.Sprintf("%d %s, %d %s, %d %s", n[protocol.PlanCreate], created, n[protocol.PlanUpdate], updated, n[protocol.PlanRemove], removed)
}
