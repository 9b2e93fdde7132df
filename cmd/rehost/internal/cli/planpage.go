package cli

import (
	"fmt"
	"strings"

	"rehost/protocol"
)

// printPlan shows a plan, with all that is set of each new block if wanted; out is the file that it was kept in, or empty.
func printPlan(env Env, plan planFile, all bool, out string) error {
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
	planChanges(&p, env, changes, all)
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

func planCounts(plan protocol.Plan, created, updated, removed string) string {
	n := map[string]int{}
	for _, c := range plan.Changes {
		n[c.Action]++
	}
	return fmt.Sprintf("%d %s, %d %s, %d %s", n[protocol.PlanCreate], created, n[protocol.PlanUpdate], updated, n[protocol.PlanRemove], removed)
}
