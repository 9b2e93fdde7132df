package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

// exitChanges is what plan --detailed-exitcode returns when there is something to apply, as terraform does.
const exitChanges = 2

func newPlan(env Env, c *client) *cobra.Command {
	var output string
	var detailed bool
	cmd := &cobra.Command{
		Use:     "plan DIR",
		Short:   "Show what applying a configuration would change",
		Example: "  rehost plan configs/small\n  rehost plan configs/small --detailed-exitcode",
		Args:    one("DIR"),
	}
	vars := variableFlags(cmd)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there are changes")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		_, plan, err := makePlan(cmd.Context(), c, args[0], *vars)
		if err != nil {
			return err
		}
		if output == "json" {
			err = writeJSON(env.Stdout, plan)
		} else {
			err = printPlan(env, plan)
		}
		if err == nil && detailed && len(plan.Changes) > 0 {
			return &exitError{code: exitChanges}
		}
		return err
	}
	return cmd
}

func newApply(env Env, c *client) *cobra.Command {
	var output string
	var yes bool
	cmd := &cobra.Command{
		Use:     "apply DIR",
		Short:   "Make the fleet as a configuration says",
		Long:    "Show the plan, ask, and apply exactly that plan. If the fleet changed in between, nothing is applied.",
		Example: "  rehost apply configs/small\n  rehost apply configs/small --yes",
		Args:    one("DIR"),
	}
	vars := variableFlags(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		if output == "json" && !yes {
			return usage(hint.New("apply -o json cannot ask", "pass --yes as well"))
		}
		fleet, plan, err := makePlan(cmd.Context(), c, args[0], *vars)
		if err != nil {
			return err
		}
		if output != "json" {
			if err := printPlan(env, plan); err != nil {
				return err
			}
		}
		if len(plan.Changes) > 0 {
			if !yes {
				if err := confirm(env, "", "yes"); err != nil {
					return err
				}
			}
			if plan, err = ask[protocol.ApplyRequest, protocol.Plan](cmd.Context(), c, protocol.VerbApply, protocol.ApplyRequest{Fleet: fleet, Hash: plan.Hash}); err != nil {
				return err
			}
		}
		if output == "json" {
			return writeJSON(env.Stdout, plan)
		}
		var p printer
		p.line("Applied: %s.", planCounts(plan, "created", "updated", "removed"))
		return p.flush(env.Stdout)
	}
	return cmd
}

func makePlan(ctx context.Context, c *client, dir string, vars variables) (protocol.Fleet, protocol.Plan, error) {
	fleet, err := vars.load(dir)
	if err != nil {
		return fleet, protocol.Plan{}, err
	}
	plan, err := ask[protocol.PlanRequest, protocol.Plan](ctx, c, protocol.VerbPlan, protocol.PlanRequest{Fleet: fleet})
	return fleet, plan, err
}

func printPlan(env Env, plan protocol.Plan) error {
	var p printer
	for _, w := range plan.Warnings {
		p.line("warning: %s", w)
	}
	if len(plan.Changes) == 0 {
		p.line("No changes: the fleet is as the configuration says.")
		return p.flush(env.Stdout)
	}
	marks := map[string]string{"create": "+", "update": "~", "remove": "-"}
	for _, c := range plan.Changes {
		p.line("  %s %s %s", marks[c.Action], c.Kind, c.Name)
		for _, f := range c.Fields {
			p.line("      %s", f)
		}
		if c.Effect != "" {
			p.line("      effect: %s", c.Effect)
		}
	}
	p.line("")
	p.line("Plan: %s.", planCounts(plan, "to create", "to update", "to remove"))
	return p.flush(env.Stdout)
}

func planCounts(plan protocol.Plan, created, updated, removed string) string {
	n := map[string]int{}
	for _, c := range plan.Changes {
		n[c.Action]++
	}
	return fmt.Sprintf("%d %s, %d %s, %d %s", n["create"], created, n["update"], updated, n["remove"], removed)
}
