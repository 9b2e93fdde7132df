package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

// exitChanges is what plan --detailed-exitcode returns when there is something to apply, as terraform does.
const exitChanges = 2

// desired is what plan and apply are called with.
type desired struct {
	vars    *variables
	targets []string
	all     bool // of each new block
}

func desiredFlags(cmd *cobra.Command, c *client) *desired {
	d := &desired{vars: variableFlags(cmd)}
	cmd.Flags().StringArrayVar(&d.targets, "target", nil, "only this `block` and what it refers to: server.NAME, application.NAME or wave.NAME; may be given several times")
	completeFlag(cmd, c, "target", c.targets)
	cmd.Flags().BoolVar(&d.all, "all", false, fmt.Sprintf("show all that is set of each new block, also of more than %d of a kind", maxWhole))
	return d
}

// given says whether variables or targets were.
func (d *desired) given() bool { return len(d.vars.values)+len(d.vars.files)+len(d.targets) > 0 }

func newPlan(env Env, c *client) *cobra.Command {
	var output, out string
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan DIR",
		Short: "Show what applying a configuration would change",
		Long: "Compare a configuration with the one that is applied, and with what is recorded and observed of its servers: what is created, changed and\n" +
			"removed, from which value to which, and what that costs. Of a new block all is shown that is set, defaults too, and what a server gets of\n" +
			"the blocks around it; of many of a kind, what each has otherwise than the first. Findings of preflight are shown: those that block tests\n" +
			"and cutovers, and warnings.\n\n" +
			"With --out the plan is kept, and rehost apply FILE applies exactly that, or refuses when something has changed since.",
		Example: "  rehost plan configs/small\n  rehost plan configs/small --out small.plan\n  rehost plan configs/small --target wave.first\n" +
			"  rehost plan configs/small --detailed-exitcode",
		Args: one("DIR"),
	}
	of := desiredFlags(cmd, c)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit with 2 when there are changes")
	cmd.Flags().StringVar(&out, "out", "", "keep the plan in this `file`, for rehost apply FILE; it holds the whole configuration")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		plan, err := makePlan(cmd.Context(), c, args[0], of)
		if err != nil {
			return err
		}
		if out != "" {
			if err := plan.save(out); err != nil {
				return err
			}
		}
		if output == formatJSON {
			err = writeJSON(env.Stdout, plan.Plan)
		} else {
			err = printPlan(env, plan, of.all, out)
		}
		if err == nil && detailed && len(plan.Plan.Changes) > 0 {
			return &exitError{code: exitChanges}
		}
		return err
	}
	return cmd
}

func newApply(env Env, c *client) *cobra.Command {
	var output string
	var sure consent
	cmd := &cobra.Command{
		Use:   "apply DIR|FILE",
		Short: "Make the fleet as a configuration or a kept plan says",
		Long: "Show the plan, ask, and apply exactly that plan. If the fleet changed in between, nothing is applied.\n\n" +
			"FILE is one that rehost plan --out wrote: it is applied without a question, as it is, or refused with what has changed since.",
		Example: "  rehost apply configs/small\n  rehost apply configs/small --yes\n  rehost apply small.plan",
		Args:    one("DIR"),
	}
	of := desiredFlags(cmd, c)
	sure.flag(cmd)
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		plan, kept, err := loadPlan(args[0])
		switch {
		case err != nil:
			return err
		case kept && of.given():
			return usage(hint.New(args[0]+" is a plan: variables and targets are in it", "leave out --var, --var-file and --target, or name the configuration's folder"))
		case !kept:
			if err := sure.possible(output); err != nil {
				return err
			}
			if plan, err = makePlan(cmd.Context(), c, args[0], of); err != nil {
				return err
			}
		}
		if output == formatText {
			if err := printPlan(env, plan, of.all, ""); err != nil {
				return err
			}
		}
		done, err := carryOut(cmd.Context(), c, plan, kept, sure)
		if err != nil {
			return err
		}
		if output == formatJSON {
			return writeJSON(env.Stdout, done)
		}
		var p printer
		p.line("Applied: %s.", planCounts(done, "created", "updated", "removed"))
		return p.flush(env.Stdout)
	}
	return cmd
}

func makePlan(ctx context.Context, c *client, dir string, of *desired) (planFile, error) {
	fleet, err := of.vars.load(dir)
	if err != nil {
		return planFile{}, err
	}
	req := protocol.PlanRequest{Fleet: fleet, Targets: of.targets}
	plan, err := askWithin[protocol.PlanRequest, protocol.Plan](ctx, c, planTimeout(req), protocol.VerbPlan, req)
	return newPlanFile(req, plan, dir, time.Now()), err
}

// carryOut applies a plan that there is something in, after a question. A kept one was decided before; whether it is stale is told in any case.
func carryOut(ctx context.Context, c *client, p planFile, kept bool, sure consent) (protocol.Plan, error) {
	if kept {
		return applyPlan(ctx, c, p)
	}
	if len(p.Plan.Changes) == 0 {
		return p.Plan, nil
	}
	if err := sure.get(ctx, c, "", "yes"); err != nil {
		return protocol.Plan{}, err
	}
	return applyPlan(ctx, c, p)
}

// planTimeout gives the controller time for a large fleet: 10,000 servers take it a second or two, on a busy machine more.
func planTimeout(req protocol.PlanRequest) time.Duration {
	return askTimeout + time.Duration(len(req.Fleet.Servers)/1000)*time.Second
}

// applyPlan applies exactly what was planned.
func applyPlan(ctx context.Context, c *client, p planFile) (protocol.Plan, error) {
	changes := slices.Clone(p.Plan.Changes)
	for i := range changes {
		if changes[i].Action == protocol.PlanCreate {
			changes[i].Fields = nil // the content stands for them
		}
	}
	done, err := askWithin[protocol.ApplyRequest, protocol.Plan](ctx, c, planTimeout(p.PlanRequest), protocol.VerbApply, protocol.ApplyRequest{
		Fleet: p.Fleet, Targets: p.Targets, Hash: p.Plan.Hash, Changes: changes,
	})
	if lost, ok := errors.AsType[*lostError](err); ok {
		return done, hint.Wrap(fmt.Errorf("%w; whether the plan was applied is not known", lost), "a plan is applied whole or not at all: when the controller is back, rehost plan shows which")
	}
	return done, err
}
